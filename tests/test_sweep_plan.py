"""What a sweep is before it begins: its rows of overrides, its jobs, their names and tags."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from microgpt.app import config_path
from microgpt.build import resolve
from microgpt.sweep.compose import Composer
from microgpt.sweep.expand import expand, grid_of, quoted, short_names
from microgpt.sweep.job import Assignment, do
from microgpt.sweep.plan import Job, jobs_of
from microgpt.terminal import WRONG_INPUT, ConfigError
from tests.running import TINY

Arms = Sequence[dict[str, Any]]
Zip = Sequence[Sequence[str]]


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    """Hydra's own, on our configurations."""
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def master(loader: ConfigLoader, *words: str) -> DictConfig:
    """The configuration of a sweep as a whole."""
    return loader.load_configuration("train", list(words), RunMode.MULTIRUN)


def rows_of(*words: str, zipped: Zip = (), arms: Arms = ()) -> list[str]:
    """The rows of a sweep, each in one string."""
    parsed = OverridesParser.create().parse_overrides(list(words))
    return [" ".join(row) for row in expand(parsed, zipped, arms)]


def planned(loader: ConfigLoader, *words: str, zipped: Zip = (), arms: Arms = ()) -> list[Job]:
    """The jobs of a tiny sweep."""
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*TINY, *words])
    rows = expand(parsed, zipped, arms)
    return jobs_of(rows, grid_of(rows), Composer(loader, master(loader, "tracking=none")))


def test_a_grid_has_every_combination_and_the_last_key_varies_fastest() -> None:
    assert rows_of("a=1,2", "b=x", "c=range(3)") == [
        *("a=1 b=x c=0", "a=1 b=x c=1", "a=1 b=x c=2"),
        *("a=2 b=x c=0", "a=2 b=x c=1", "a=2 b=x c=2"),
    ]
    assert rows_of("a=choice(1,2)", "b=[1,2]") == ["a=1 b=[1,2]", "a=2 b=[1,2]"]
    assert rows_of() == [""]


def test_values_are_written_as_they_were_typed() -> None:
    assert rows_of("a=true,null", "b=False") == ["a=true b=false", "a=null b=false"]
    assert rows_of("a='True','x y'") == ["a='True'", "a='x y'"]


def test_keys_are_added_and_deleted_for_all_jobs() -> None:
    assert rows_of("+a=1,2", "~b", "++c=3") == ["+a=1 ~b ++c=3", "+a=2 ~b ++c=3"]
    assert rows_of("~b=4") == ["~b=4"]


def test_of_two_values_for_one_key_the_last_counts() -> None:
    assert rows_of("a=1,2", "b=1,2", "a=3") == ["a=3 b=1", "a=3 b=2"]


def test_a_group_of_keys_goes_side_by_side() -> None:
    rows = rows_of("a=1,2", "s=0,1", "b=x,y", zipped=[["a", "b"]])
    assert rows == ["a=1 b=x s=0", "a=1 b=x s=1", "a=2 b=y s=0", "a=2 b=y s=1"]


def test_several_groups_are_crossed_with_each_other() -> None:
    rows = rows_of("a=1,2", "b=3,4", "c=5,6,7", "d=7,8,9", zipped=[["a", "b"], ["c", "d"]])
    assert len(rows) == 2 * 3
    assert rows[:2] == ["a=1 b=3 c=5 d=7", "a=1 b=3 c=6 d=8"]
    assert rows[-1] == "a=2 b=4 c=7 d=9"


@pytest.mark.parametrize(
    ("words", "zipped", "told"),
    [
        (["a=1,2", "b=1,2,3"], [["a", "b"]], "a has 2, b has 3"),
        (["a=1,2", "b=1"], [["a", "b"]], "a has 2, b has 1"),
        (["a=1,2"], [["a", "c"]], "hydra.sweeper.zip=c: must be a key of the sweep"),
        (["a=1,2", "b=1,2", "c=1,2"], [["a", "b"], ["c", "b"]], "hydra.sweeper.zip=b"),
        (["a=interval(0,1)"], [], "a=interval(0,1): has no end of values"),
    ],
)
def test_what_cannot_be_expanded(words: list[str], zipped: Zip, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rows_of(*words, zipped=zipped)
    assert told in str(caught.value)


def test_explicit_arms_are_crossed_with_the_grid() -> None:
    arms: Arms = [{"o": "sgd", "o.lr": 0.1}, {"o": "adam"}]
    rows = rows_of("seed=0,1", arms=arms)
    assert rows == [
        "o=sgd o.lr=0.1 seed=0",
        "o=sgd o.lr=0.1 seed=1",
        "o=adam seed=0",
        "o=adam seed=1",
    ]


def test_values_of_arms_are_written_as_on_the_command_line() -> None:
    arm = {
        "a": None,
        "b": True,
        "c": 1e-05,
        "d": [1, 2],
        "e": {"f": "x, y", "z": [None]},
        "g": "${h}",
    }
    (row,) = expand([], [], OmegaConf.create([arm | {"g": "\\${h}"}]))
    parsed = OverridesParser.create().parse_overrides(row)
    assert {each.key_or_group: each.value() for each in parsed} == arm


@pytest.mark.parametrize(
    "text", ["", "a b", "a,b", 'a"b', "it's", r"a\b", r"a\\b", "a\\", 'a\\"b', '\\\\"', "é {", "=:"]
)
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quoted(text)}").value() == text


def test_the_grid_is_what_differs() -> None:
    rows = [["a=1", "m/n=x", "s=0"], ["a=1", "m/n=y", "s=1"], ["a=1", "m/n=x", "s=1"]]
    assert grid_of(rows) == {"m/n": ["x", "y"], "s": ["0", "1"]}
    assert grid_of([["a=1", "b=2"], ["a=1"]]) == {"b": ["2"]}  # one arm has it, another not
    assert grid_of([["a=1", "+b=2"]]) == {}


def test_short_names_say_which() -> None:
    assert short_names(["model.n_head", "optimizer.lr"]) == {
        "model.n_head": "n_head",
        "optimizer.lr": "lr",
    }
    both = ["model.norm.eps", "optimizer.eps", "model/norm"]
    assert short_names(both) == {
        "model.norm.eps": "model.norm.eps",
        "optimizer.eps": "optimizer.eps",
        "model/norm": "norm",
    }


def test_jobs_of_a_grid(loader: ConfigLoader) -> None:
    jobs = planned(loader, "model.n_head=1,2", "model/norm=rmsnorm,layernorm", "seed=range(2)")
    assert [job.name for job in jobs[:3]] == [
        "n_head=1 norm=rmsnorm seed=0",
        "n_head=1 norm=rmsnorm seed=1",
        "n_head=1 norm=layernorm seed=0",
    ]
    assert len(jobs) == len({job.run for job in jobs}) == 8
    last = jobs[-1]
    assert last.arm == "n_head=2 norm=layernorm"
    assert last.seed == 1
    assert last.tags == {"n_head": "2", "norm": "layernorm", "seed": "1"}
    assert last.differs == {"model.n_head": "2", "model/norm": "layernorm", "seed": "1"}
    assert last.overrides == ["model.n_head=2", "model/norm=layernorm", "seed=1"]
    assert last.run == f"{last.signature[:12]}-{last.source[:8]}"
    sources = {job.source for job in jobs}
    assert len(sources) == 2, "each norm has a source of its own"


def test_jobs_over_seeds_alone_have_the_default_arm(loader: ConfigLoader) -> None:
    jobs = planned(loader, "seed=1,2")
    assert [(job.name, job.arm, job.seed) for job in jobs] == [
        ("seed=1", "default", 1),
        ("seed=2", "default", 2),
    ]


def test_a_job_alone(loader: ConfigLoader) -> None:
    (job,) = planned(loader)
    assert (job.name, job.arm, job.overrides, job.tags) == ("default", "default", [], {})


def test_jobs_of_arms_with_different_keys(loader: ConfigLoader) -> None:
    arms: Arms = [{"optimizer": "sgd", "optimizer.lr": 0.1}, {"optimizer": "adam"}]
    jobs = planned(loader, "seed=0,1", arms=arms)
    assert [job.arm for job in jobs[::2]] == ["optimizer=sgd lr=0.1", "optimizer=adam"]
    assert jobs[2].tags == {"optimizer": "adam", "seed": "0"}


def test_jobs_that_ask_the_same_are_one(loader: ConfigLoader) -> None:
    # 1e-2 is 0.01, and sampling.top_p=1 is 1.0
    jobs = planned(loader, "optimizer.lr=0.01,1e-2,0.02", "sampling.top_p=1,1.0")
    assert [job.name for job in jobs] == ["lr=0.01 top_p=1", "lr=0.02 top_p=1"]


def test_engines_of_two_arithmetics_are_two_jobs(loader: ConfigLoader) -> None:
    jobs = planned(loader, "engine=scalar,vector,numpy")
    assert len({job.signature for job in jobs}) == 3
    jobs = planned(loader, "engine=numpy", "engine.dtype=float64,float32")
    assert len({job.signature for job in jobs}) == 2


def test_engines_that_cannot_be_built_are_jobs_that_tell(loader: ConfigLoader) -> None:
    jobs = planned(loader, "engine=numpy", "engine.dtype=float16,float8")
    assert len({job.run for job in jobs}) == 2


OVERRIDES: list[list[str]] = [
    [],
    ["seed=3", "model.n_head=2"],
    ["model/norm=layernorm"],
    ["model/norm=layernorm", "model.n_embd=8", "seed=1"],
    ["optimizer=sgd"],
    ["optimizer.lr=0.5", "optimizer=sgd"],  # options come first, wherever they stand
    ["optimizer=sgd", "optimizer.lr=1e-3"],
    ["schedule=cosine", "schedule.final=0.1"],
    ["experiment=heads"],
    ["experiment=heads", "optimizer.lr=1e-3", "schedule=constant"],
    ["trainer.clip_norm=1e-3"],
    ["trainer.clip_norm=1"],
    ["trainer.clip_norm=null", "trainer.stop_after=null"],
    ["description=some words", "paths.outputs='a b'"],
    ["description='1'"],
    ["description=''"],
    ["description=1e5x"],
    ["description=null"],
    ["description=a\\,b"],
    ["description=[1,{a: 2}]"],
    ["trainer.eval_every=${trainer.num_steps}"],
    ["trainer.eval_every=${trainer.num_steps}", "trainer.num_steps=7"],
    ["paths.outputs=${oc.env:HOME}/there"],
    ["trainer={num_steps: 5, batch_size: 2}"],
    ["model.norm={_target_: x.y}"],
    ["sampling.temperature=inf"],
    ["progress=false", "skip=false"],
    ["+extra=1"],
    ["+optimizer.extra=[1,2]", "seed=2"],
    ["++extra=1", "++seed=4"],
    ["~progress"],
    ["~trainer.log_every", "seed=2"],
    ["~trainer.log_every=10"],
    ["~tracking"],
    ["+trainer.more={a: 1}", "trainer.num_steps=3"],
    ["description=1", "++description={a: 2}"],  # in the order in which they stand
    ["trainer.log_every=2", "~trainer.log_every"],
    ["tracking=none"],
    ["data=lines", "data.path=there.txt"],
    ["optimizer.lr=0.1", "optimizer.lr=0.2"],
]


@pytest.fixture(scope="module")
def base(loader: ConfigLoader) -> DictConfig:
    """What Hydra gives to a sweeper."""
    return master(loader)


@pytest.fixture(scope="module")
def compose(loader: ConfigLoader, base: DictConfig) -> Composer:
    """One for all cases, as one serves all jobs: none may leave a trace in another."""
    return Composer(loader, base)


@pytest.mark.parametrize("words", OVERRIDES, ids=" ".join)
def test_the_composer_gives_what_hydra_gives(
    loader: ConfigLoader, base: DictConfig, compose: Composer, words: list[str]
) -> None:
    theirs = loader.load_sweep_config(base, list(words))
    with open_dict(theirs):
        del theirs["hydra"]
    assert OmegaConf.to_yaml(compose(words)) == OmegaConf.to_yaml(theirs)


@pytest.mark.parametrize("words", OVERRIDES, ids=" ".join)
def test_plain_values_are_what_the_configuration_resolves_to(
    compose: Composer, words: list[str]
) -> None:
    def told(values: Callable[[], dict[str, Any]]) -> str:
        try:
            return OmegaConf.to_yaml(values())
        except ConfigError as error:
            return str(error)

    assert told(lambda: compose.plain(words)) == told(lambda: resolve(compose(words)))


def test_a_job_leaves_no_trace_in_the_next(compose: Composer) -> None:
    before = OmegaConf.to_yaml(compose.plain(["seed=1"]))
    compose.plain(["seed=2", "model.n_embd=32", "trainer.num_steps=7"])
    assert OmegaConf.to_yaml(compose.plain(["seed=1"])) == before


@pytest.mark.parametrize(
    "word", ["nothing=1", "optimizer=none", "optimizer.nothing=1", "~nothing", "seed@a=1"]
)
def test_the_composer_refuses_what_hydra_refuses(
    loader: ConfigLoader, base: DictConfig, compose: Composer, word: str
) -> None:
    refusals = HydraException, OmegaConfBaseException
    with pytest.raises(refusals):
        loader.load_sweep_config(base, [word])
    with pytest.raises(refusals):
        compose([word])


def test_a_class_that_cannot_be_imported_may_be_there_another_time(
    loader: ConfigLoader, tmp_path: Path
) -> None:
    """Its job has failed, and is done again; it is not refused for ever."""
    words = "schedule=constant", "schedule._target_=nosuch.Mine"
    (planned_job,) = planned(loader, *words, f"paths.outputs={tmp_path}")
    job = Assignment("s", planned_job.facts, planned_job.config)
    assert do(job) == WRONG_INPUT
    assert "cannot be imported" in job.run.info["reason"]
    assert job.run.info["refused"] is False

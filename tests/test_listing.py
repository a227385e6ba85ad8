"""`microgpt runs`, `sweeps` and `rm`, on folders and on a store alone."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microgpt.run.find import find_folder
from microgpt.run.folder import NoSuchRun, RunFolder, all_runs
from microgpt.run.sweep import SweepFolder
from microgpt.sweep.expand import varied
from microgpt.tracking import sync
from tests.command import command
from tests.conftest import Here
from tests.running import REPOSITORY, store, train_here

IDS = {"one": "11aa00000000-00000000", "two": "22bb00000000-00000000"}
Json = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with three runs, which a store has too: one of sweep `one`, one of both sweeps, one alone."""
    outputs = tmp_path_factory.mktemp("made") / "outputs"
    outputs.mkdir()
    shutil.copy(store_template, outputs / "mlflow.db")
    runs = {}
    for seed, name in enumerate(("of-one", "of-both", "alone")):
        words = [
            f"seed={seed}",
            "trainer.num_steps=3",
            "engine=native",
            f"trainer.batch_size={3 - seed}",
        ]
        code, runs[name] = train_here(outputs, *words, name=name)
        assert code == 0
    for name, members in (("one", ("of-one", "of-both")), ("two", ("of-both",))):
        sweep = SweepFolder(outputs / "sweeps" / IDS[name])
        sweep.path.mkdir(parents=True)
        jobs = [
            {"run": run, "name": run, "arm": run, "seed": 0, "differs": {}, "tags": {}}
            for run in members
        ]
        sweep.begin(
            id=IDS[name],
            uid=f"{name:a<32}".translate(str.maketrans("notw", "abcd")),
            **dict.fromkeys(("signature", "source"), "a"),
            name=f"heads seed={name}",
            experiment="heads",
            description=None,
            ablation=None,
            grid={"seed": ["0"]},
            config=runs["alone"].config,
            jobs=jobs,
            status="finished",
            begun=1_800_000_000.0 + len(members),
            ended=1_800_000_100.0,
        )
        for run in members:
            sweeps = runs[run].info.get("sweeps", {}) | {IDS[name]: run}
            runs[run].update(sweeps=sweeps)
    folders = [SweepFolder(outputs / "sweeps" / each) for each in IDS.values()]
    assert len(list(sync([*folders, *runs.values()], None, outputs))) == 5
    return outputs


@pytest.fixture
def listed(here: Here) -> Json:
    """What a command prints as JSON."""

    def call(outputs: Path, *words: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(here(outputs, *words, "--json")[0])
        return rows

    return call


def documented(command: str) -> set[str]:
    """The keys that docs/programs.md has for a command in its section, in a table and before it."""
    page = (REPOSITORY / "docs/programs.md").read_text(encoding="utf-8")
    (section,) = [part for part in page.split("\n## ") if part.startswith(f"`microgpt {command}")]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    before = section.partition("| key")[0].partition("\n")[2]
    return {key for text in (*cells, before) for key in re.findall(r"`([a-z_]+)`", text)}


def test_the_keys_for_programs_are_documented(made: Path, listed: Json) -> None:
    assert set(listed(made, "runs")[0]) == documented("runs")
    assert set(listed(made, "sweeps")[0]) == documented("sweeps")


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_runs_are_listed_sorted_and_chosen(made: Path, listed: Json) -> None:
    rows = listed(made, "runs")
    assert ids(rows) == ["of-one", "of-both", "alone"]
    assert rows[0]["sweeps"] == [IDS["one"]]
    losses = {row["id"]: row["held_out"] for row in rows}
    best = sorted(losses, key=lambda name: losses[name])
    assert ids(listed(made, "runs", "--sort", "held-out")) == best
    assert ids(listed(made, "runs", "--sort", "held-out", "-n", "1")) == best[:1]
    assert ids(listed(made, "runs", "--sweep", "22bb")) == ["of-both"]
    assert ids(listed(made, "runs", "--name", "batch_size=1")) == ["alone"]
    assert listed(made, "runs", "--status", "failed") == []
    assert ids(listed(made, "runs", "--status", "finished")) == ids(rows)


def test_a_status_that_no_run_can_have_is_refused(made: Path, here: Here) -> None:
    assert "invalid choice: 'done'" in here(made, "runs", "--status", "done", code=2)[1]


def test_a_list_in_a_pipe_is_whole_and_one_line_a_run(made: Path, here: Here) -> None:
    said, _ = here(made, "runs")
    head, *lines = said.splitlines()
    assert head.split() == ["run", "status", "step", "held-out", "params", "name"]
    assert len(lines) == 3
    for line in lines:
        assert "batch_size=" in line  # the end of a long name


def test_an_output_that_lacks_characters_is_written_to(made: Path) -> None:
    name = RunFolder(made / "runs/alone").info["name"]
    RunFolder(made / "runs/alone").update(name="zoë")
    places = {"MICROGPT_OUTPUTS": str(made), "PYTHONIOENCODING": "ascii"}
    assert r"zo\xeb" in command(["runs"], made, **places).out
    RunFolder(made / "runs/alone").update(name=name)


def test_sweeps_are_listed_and_told_apart(made: Path, listed: Json, here: Here) -> None:
    rows = listed(made, "sweeps")
    assert ids(rows) == [IDS["two"], IDS["one"]]  # by their beginning
    assert [(row["finished"], row["jobs"], row["name"]) for row in rows] == [
        (1, 1, "heads seed=two"),
        (2, 2, "heads seed=one"),
    ]
    assert "2/2" in here(made, "sweeps")[0]
    grid = {"model.n_head": ["1", "2", "8"], "seed": ["0", "1", "2"], "data": ["a/x", "a/y"]}
    assert varied(grid) == "n_head=1,2,8 seed=0-2 data=x,y"
    assert varied({"lr": [str(number / 10) for number in range(9)]}) == "lr=0.0..0.8 (9)"


def test_the_store_alone_is_enough(made: Path, tmp_path: Path, listed: Json) -> None:
    """Of a machine that has only the database."""
    shutil.copy(made / "mlflow.db", tmp_path / "mlflow.db")
    here_and_there = ("id", "name", "status", "step", "num_steps", "held_out", "n_params", "sweeps")
    for words in ([], ["--sweep", "22bb"], ["--sweep", "heads"], ["--sort", "held-out"]):
        words = ["runs", *words]
        own, stored = listed(made, *words), listed(tmp_path, *words)
        assert [[row[k] for k in here_and_there] for row in stored] == [
            [row[k] for k in here_and_there] for row in own
        ]
    named = ("id", "name", "status", "jobs", "finished", "begun")
    assert [[row[k] for k in named] for row in listed(tmp_path, "sweeps")] == [
        [row[k] for k in named] for row in listed(made, "sweeps")
    ]


def test_the_runs_of_a_sweep_without_its_folder_are_those_of_the_store(
    made: Path, tmp_path: Path, listed: Json
) -> None:
    shutil.copy(made / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(made / "runs/alone", tmp_path / "runs/alone")
    assert ids(listed(tmp_path, "runs")) == ["alone"]
    assert ids(listed(tmp_path, "runs", "--sweep", "22bb")) == ["of-both"]


def test_a_sweep_is_not_compared_with_a_run(made: Path, here: Here) -> None:
    said = here(made, "compare", IDS["two"], "alone", code=2)[1]
    assert said == (
        f"microgpt: RUN='{IDS['two']}': is a sweep, and is compared with one other sweep\n"
    )


def test_a_sweep_that_is_not_there_has_no_list(made: Path, tmp_path: Path, here: Here) -> None:
    shutil.copy(made / "mlflow.db", tmp_path / "mlflow.db")
    for outputs in (made, tmp_path):
        assert "--sweep none: no such sweep" in here(outputs, "runs", "--sweep", "none", code=2)[1]


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_a_run_that_never_began_is_in_the_list_of_a_store(
    status: str, store_template: Path, made: Path, tmp_path: Path, listed: Json
) -> None:
    shutil.copy(store_template, tmp_path / "mlflow.db")
    run = RunFolder(tmp_path / "runs/never")
    facts: dict[str, Any] = {key: {} for key in ("git", "fingerprint", "data")}
    facts |= {"name": "never", "signature": "a", "source": "a", "num_steps": 3, "begun": 1.8e9}
    run.create(RunFolder(made / "runs/alone").config, [], "", **facts)
    refused = status == "refused"
    run.update(status="failed", failed_at=0, reason="why", ended=1.8e9, refused=refused)
    list(sync([run], None, tmp_path))
    own = listed(tmp_path, "runs")
    shutil.rmtree(tmp_path / "runs")
    told = ("id", "status", "step", "num_steps", "n_params")
    (row,) = listed(tmp_path, "runs")
    assert [row[key] for key in told] == [own[0][key] for key in told]
    assert row["status"] == status


def test_a_prefix_of_a_sweep_and_a_run_names_neither(tmp_path: Path) -> None:
    for file in ("sweeps/22bbcc/sweep.json", "runs/22bbdd/run.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("{}")
    assert find_folder(tmp_path, "22bbc").path.name == "22bbcc"
    assert find_folder(tmp_path, "22bbd").path.name == "22bbdd"
    with pytest.raises(
        NoSuchRun, match=r"22bb: prefix of a sweep \(22bbcc\) and of a run \(22bbdd\)"
    ):
        find_folder(tmp_path, "22bb")


def test_a_sweep_of_other_outputs_shares_runs_there(made: Path, tmp_path: Path, here: Here) -> None:
    """Its path names it; neither runs nor sweeps are in the usual outputs."""
    there = tmp_path / "there"
    shutil.copytree(made, there)
    sweep = SweepFolder(there / "sweeps" / IDS["one"])
    list(sync([sweep, RunFolder(there / "runs/of-one")], None, there))  # no longer of the original
    here(tmp_path / "usual", "rm", str(sweep.path), "--yes")
    assert {run.path.name for run in all_runs(there)} == {"of-both", "alone"}
    left = {run.data.tags["microgpt.id"] for run in store(there).search_runs(["1"])}
    assert left == {IDS["two"], "of-both", "alone"}


@pytest.mark.parametrize("answer", [EOFError, "n"])
def test_nothing_is_removed_without_a_yes(
    made: Path, here: Here, monkeypatch: pytest.MonkeyPatch, answer: str | type[Exception]
) -> None:
    def asked(_: str) -> str:
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", asked)
    assert "nothing removed" in here(made, "rm", "alone")[0]
    assert RunFolder(made / "runs/alone").exists


def test_removed_is_what_no_other_sweep_has(made: Path, here: Here, listed: Json) -> None:
    """On the folders themselves, since the store's runs belong to them: the last of these tests."""
    said, complained = here(made, "rm", "11aa", code=2)  # nobody can be asked
    assert "add --yes" in complained
    assert IDS["one"] in said
    assert "of-one" in said
    assert len(ids(listed(made, "runs"))) == 3
    client = store(made)
    places = [run.info.artifact_uri for run in client.search_runs(["1"])]
    assert len(places) == 5
    said, complained = here(made, "rm", "11aa", "--yes")
    assert complained == ""
    assert "in 2 folders; in MLflow 2 runs and " in said
    assert ids(listed(made, "runs")) == ["of-both", "alone"]
    assert ids(listed(made, "sweeps")) == [IDS["two"]]
    left = client.search_runs(["1"], run_view_type=3)
    assert {run.data.tags["microgpt.id"] for run in left} == {IDS["two"], "of-both", "alone"}
    there = {path.name for path in (made / "artifacts/microgpt").iterdir()}
    assert there == {run.info.run_id for run in left}


def test_a_run_under_way_is_not_removed(made: Path, here: Here) -> None:
    run = RunFolder(made / "runs/alone")
    with run.locked():
        _, complained = here(made, "rm", "alone", "--yes", code=2)
    assert "another process is at work" in complained
    assert run.exists
    _, complained = here(made, "rm", "alone", "nothing-here", "--yes", code=2)
    assert "nothing-here: no such run or folder" in complained
    assert run.exists

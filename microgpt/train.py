"""`microgpt train` for one run, new or resumed from its last checkpoint."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from microgpt.build import Parts, build, built, part, resolve
from microgpt.console import out
from microgpt.core.data import Documents
from microgpt.core.events import Checkpointed
from microgpt.core.trainer import Trainer
from microgpt.datasets.checks import remarks
from microgpt.extend import KEY, check_extended, drop_end, lengthened, steps_asked
from microgpt.one_run import train_and_report
from microgpt.run.folder import OUTCOME, NoSuchRun, RunFolder, find_run
from microgpt.run.identity import fingerprint, git_state, signature
from microgpt.run.reading import BadRecord
from microgpt.run.record import FINISHED, RUNNING
from microgpt.run.source import code, modules_of, targets
from microgpt.run.state import last_state
from microgpt.run.unborn import stranger
from microgpt.syntax import key_and_value
from microgpt.terminal import OK, ConfigError, Ended, complain
from microgpt.trust import OURS_ALONE, Trust, replayed

MAY_CHANGE = (KEY, "progress", "trainer.stop_after", "tracking")  # keys that a resume may change
UNNAMED = ("paths", "tracking", "progress", "description")  # keys left out of a run's name
Overrides: TypeAlias = Sequence[str]


def train(
    cfg: DictConfig,
    folder: Path,
    overrides: Overrides,
    trust: Trust = OURS_ALONE,
    notes: Sequence[str] = (),
) -> Ended:
    """Trains the configuration `cfg` in `folder`, or resumes the run that `cfg.resume` names.

    Raises ConfigError, NoSuchRun and Busy before anything is written.

    notes  lines for the user, said once nothing of the configuration is refused
    """
    if cfg.resume is not None:
        return resume(cfg, overrides, trust)
    config = resolve(cfg)
    tracking = part(config, "tracking")
    tracking.prepare()
    parts = built(config)
    check_split(parts)
    for line in (*notes, *remarks_on(parts)):
        complain(line)
    run = RunFolder(folder)
    if not run.exists and (name := stranger(folder)):  # it would be sent, and removed, with the run
        allowed = "must be a new or an empty folder"
        raise ConfigError(f"hydra.run.dir={folder}: {allowed}, but has {name}")
    with run.locked():
        if run.exists:
            raise ConfigError(f"hydra.run.dir={folder}: holds a run; go on with resume={folder}")
        begin = partial(create, run, parts, name=run_name(overrides))
        return Ended(train_and_report(parts, run, tracking, begin), run)


def check_split(parts: Parts) -> None:
    """Raises ConfigError if a part of the data that is to be evaluated has nothing to predict."""
    trainer, data = parts.trainer, parts.config["data"]
    corpus, block_size = trainer.corpus, trainer.model.dims.block_size
    for key, held_out, wanted in (
        ("val_fraction", corpus.split.validation, trainer.eval_documents),
        ("test_fraction", corpus.split.test, 1),
    ):
        nothing = not any(True for _ in corpus.held_out(held_out, 1, 1, block_size))
        if data.get(key) and wanted and nothing:
            count, advice = len(parts.documents), f"data.{key}=0 evaluates nothing"
            problem = f"leaves nothing to evaluate of {count:,} document{'s' * (count != 1)}"
            if isinstance(corpus, Documents):
                advice += ", data=text is for running text"
            raise ConfigError(f"data.{key}={data[key]}: {problem}; {advice}")


def remarks_on(parts: Parts) -> Iterator[str]:
    """What a user may not expect of the data, a line each."""
    source = part(parts.config, "data")
    return remarks(source, parts.documents, parts.trainer.model.dims.block_size)


def create(run: RunFolder, parts: Parts, **facts: Any) -> None:
    """Makes the run's folder; `facts` come before those that are known of every run."""
    config = parts.config
    if path := config["data"].get("path"):  # absolute, so that a resume finds it from any folder
        config["data"]["path"] = str(Path(path).expanduser().absolute())
    git = dict(own_git_state())
    diff = git.pop("diff", "")
    facts = {**dict.fromkeys(OUTCOME), **identity(parts, facts.get("fork")), **facts}
    run.create(config, parts.documents, diff, git=git, begun=time.time(), **facts)


def resume(cfg: DictConfig, overrides: Overrides, trust: Trust) -> Ended:
    """Resumes a run from its last checkpoint, with its own configuration.

    Raises ConfigError, NoSuchRun, BadRecord and Busy before anything is written.
    """
    given = dict(map(key_and_value, overrides))
    # The text of the override, since Hydra parses the id 20261101 as a number, and 12e45678 as inf.
    reference = given.get("resume", str(cfg.resume)).strip("'\"")
    try:
        run = find_run(Path(cfg.paths.outputs), reference)
    except NoSuchRun as error:
        raise NoSuchRun(f"resume={error}") from error
    check_resumable(given)
    with run.locked():
        own = own_config(run, replayed(run.config, trust), cfg, given)
        more = steps_asked(given)
        finished = run.info["status"] == FINISHED
        if more is not None and not finished:
            raise ConfigError(f"{KEY}={more}: only a finished run can get more steps")
        if finished and more is None:
            return Ended(sync_finished(run, resolve(own)), run)
        parts = build(own, run.documents)
        if finished:
            check_extended(run, parts)
        tracking = part(parts.config, "tracking")
        tracking.prepare()
        return Ended(train_and_report(parts, run, tracking, partial(go_on, run, parts)), run)


def go_on(run: RunFolder, parts: Parts) -> None:
    """Restores a run, and says where it goes on. Raises ConfigError."""
    restart(run, parts)
    out.print(f"run {run.info['id']} goes on after step {parts.trainer.step}")


def sync_finished(run: RunFolder, config: dict[str, Any]) -> int:
    """Sends to the store what it lacks of a finished run; returns an exit code."""
    out.print(f"run {run.info['id']} is finished: nothing to resume")
    tracking = part(config, "tracking")
    tracking.start(run, Path(config["paths"]["outputs"]))
    if problem := tracking.finish():
        complain(f"not all is in MLflow yet ({problem}); later: microgpt sync {run.info['id']}")
    return OK


def check_resumable(given: Mapping[str, str]) -> None:
    """Raises ConfigError for a key that a resumed run may not change."""
    for key, value in given.items():
        known = key in ("resume", "paths.outputs", *MAY_CHANGE) or key.startswith("tracking.")
        if not known:
            problem = f"a resumed run keeps its own; only {', '.join(MAY_CHANGE)} may change"
            raise ConfigError(f"{key}={value}: {problem}")


def own_config(
    run: RunFolder, config: dict[str, Any], cfg: DictConfig, given: Mapping[str, str]
) -> DictConfig:
    """The run's configuration, `config`, with the overrides in MAY_CHANGE."""
    own = OmegaConf.create(config)
    own.trainer.stop_after = cfg.trainer.stop_after
    # Where the folder lies now: it may have been moved, or be a copy.
    home = None if "paths.outputs" in given else run.outputs
    own.paths.outputs = str((home or Path(cfg.paths.outputs)).absolute())
    if KEY in given:
        own.trainer.num_steps = cfg.trainer.num_steps
    if "progress" in given:
        own.progress = cfg.progress
    if "tracking" in given:
        own.tracking = cfg.tracking
    for key in given:
        if key.startswith("tracking."):
            OmegaConf.update(own, key, OmegaConf.select(cfg, key))
    return own


def restart(run: RunFolder, parts: Parts) -> None:
    """Restores the trainer and the folder to the run's last whole checkpoint.

    Raises ConfigError and BadRecord before anything is written.
    """
    before = run.info
    facts = identity(parts, before.get("fork"))
    if facts["data"]["digest"] != before["data"].get("digest", facts["data"]["digest"]):
        raise ConfigError(f"data: {run.path} was trained on other documents")
    state = last_state(run, parts.trainer)
    check_rows(run, parts.trainer, state)
    if state is not None:
        parts.trainer.restore(state)
    step, longer = parts.trainer.step, parts.trainer.num_steps > before["num_steps"]
    if longer:  # another record, which a store keeps beside that of the run so far
        facts["uid"] = uuid4().hex
        facts["name"] = lengthened(before["name"], parts.trainer.num_steps)
    if facts["signature"] != before["signature"]:  # its checkpoints are of the question before
        facts["earlier"] = sorted(run.signatures)
    if step:
        note_change(facts, before, "source", "the code", step)
        for key in facts["fingerprint"]:
            note_change(facts["fingerprint"], before["fingerprint"], key, key, step)
    run.rewind(step)
    run.set_config(parts.config)
    run.update(**facts, **dict.fromkeys(OUTCOME), status=RUNNING)
    drop_end(run, parts.trainer)


def check_rows(run: RunFolder, trainer: Trainer, state: Checkpointed | None) -> None:
    """Raises BadRecord unless metrics.jsonl has the last step that was to be logged before the state.

    The steps that a fork has of its parent were logged as its parent says.
    """
    step = state.step if state else 0
    every = filter(None, (trainer.log_every, trainer.eval_every))
    due = max((step - step % each for each in every), default=0)
    if due <= run.info.get("fork", {}).get("step", 0):
        return
    steps = [int(row["step"]) for row in run.metrics() if row["step"] <= step]
    if due not in steps:
        reached = max(steps, default=0)
        advice = f"without the checkpoints after step {reached}, these steps are trained again"
        raise BadRecord(run.metrics_path, f"has no step {due}, unlike step-{step}; {advice}")


def note_change(
    facts: dict[str, Any], before: Mapping[str, Any], key: str, name: str, step: int
) -> None:
    """If a fact has changed, warns and records it as `old to step N, then new`."""
    past = before.get(key, "unknown")
    if past.rpartition(", then ")[2] != facts[key]:
        complain(
            f"{name} has changed: after step {step} figures may differ from an uninterrupted run's"
        )
        facts[key] = f"{past} to step {step}, then {facts[key]}"
    else:
        facts[key] = past


def identity(parts: Parts, fork: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts of a run that are known before its first step; `fork` is where it branched off."""
    engine = parts.trainer.engine
    return {
        "signature": signature(parts.config, parts.data["digest"], engine.arithmetic, fork),
        **code_of(parts.config),
        "fingerprint": fingerprint(type(engine).__name__, engine.depends_on()),
        "data": parts.data,
        "n_params": sum(weight.size for weight in parts.trainer.shapes.values()),
        "num_steps": parts.trainer.num_steps,
        "description": parts.config["description"],
    }


def code_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The code of a run: `source`, the digests of its files, the versions of imported packages."""
    return _code_of(targets(config))


@cache
def own_git_state() -> dict[str, str]:
    """`git_state` of this program, read once per process."""
    return git_state(Path(__file__).parent)


@cache  # a process runs the code that it has loaded, even if the files change
def _code_of(targets: frozenset[str]) -> dict[str, Any]:
    return code(modules_of(targets))


def run_name(overrides: Overrides) -> str:
    """The overrides, without the path of each key: `n_head=4 lr=0.01`."""
    pairs = map(key_and_value, overrides)
    told = [(key, value) for key, value in pairs if key.partition(".")[0] not in UNNAMED]
    last = re.compile("[./]").split
    values = {key: value.rpartition("/")[2].strip("\"'") for key, value in told}
    words = [f"{last(key)[-1]}={value}" for key, value in values.items()]
    return " ".join(words)[:200] or "default"

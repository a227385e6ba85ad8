"""The command line: `microgpt COMMAND ...`, as USAGE lists them."""

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path

from microgpt.terminal import WRONG_INPUT, Parser, complain

USAGE = """usage: microgpt COMMAND ...

  train [key=value ...]   train a model and track it     (microgpt train --help)
  sample RUN              draw documents from a run      (microgpt sample --help)
  runs                    list the runs
  ui [EXPERIMENT]         open the MLflow UI on the latest runs, or on a sweep
  sync [RUN ...]          send to MLflow what it has not got yet
  compare RUN RUN ...     what differs between runs, and where their curves part
  verify RUN              train a run again: is it what the store says, to the last bit?
  verify EXPERIMENT       the same for runs of experiments/EXPERIMENT, from its lock file alone
  fork RUN --at-step N    go on from a step of a run with changes (microgpt fork --help)
  report EXPERIMENT       the table, figures and verdict of a sweep
  --version               which version this is

RUN is a run's folder, its id, its MLflow id, or the first letters of an id."""


def main() -> None:
    """The console script. Ends with exit code 0, 1 for a run that failed, 2 for wrong input."""
    try:
        try:
            _main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(words: Sequence[str]) -> None:
    if words[:1] == ["--version"]:
        from microgpt import __version__

        print(f"microgpt {__version__}")
    elif words[:1] in (["-sc"], ["--shell-completion"]):
        _complete(words)
    elif words[:1] == ["train"]:
        _train(words[1:])
    elif words and words[0] in COMMANDS:
        from microgpt.guard import guarded

        sys.exit(guarded(lambda: COMMANDS[words[0]](words[1:])))
    elif words[:1] in ([], ["-h"], ["--help"]):
        print(USAGE)
    else:
        complain(f"{words[0]}: no such command; there are train, {', '.join(COMMANDS)}")
        sys.exit(WRONG_INPUT)


def _train(words: Sequence[str]) -> None:
    from microgpt.app import run_app

    sys.exit(run_app(words))


def _complete(words: Sequence[str]) -> None:
    """Tab completion: Hydra's, which knows nothing of commands, for a line without `train`."""
    line = os.environ.get("COMP_LINE", "").lstrip()
    program, _, rest = line.partition(" ")
    command, space, overrides = rest.lstrip().partition(" ")
    if "query=bash" in words and not space:
        names = ["train", *COMMANDS]
        print(" ".join(name for name in names if name.startswith(command)))
        return
    from microgpt.app import run_app

    if "query=bash" not in words or command == "train":
        os.environ["COMP_LINE"] = f"{program} {overrides}"
        sys.exit(run_app(words))


def _outputs() -> Path:
    return Path(os.environ.get("MICROGPT_OUTPUTS") or "outputs")


def _name(text: str) -> str:
    """The argument that names a run, a sweep or an experiment."""
    if not text.strip():
        raise ArgumentTypeError(f"{text!r} must name one")
    return text


def _sample(words: Sequence[str]) -> None:
    parser = Parser("microgpt sample", description="Draw documents from a run's last checkpoint.")
    parser.add_argument(
        "run", metavar="RUN", type=_name, help="folder, id, or the first letters of an id"
    )
    parser.add_argument("-n", "--num-samples", type=int, help="how many documents")
    parser.add_argument("--temperature", type=float, help="0 takes the likeliest token")
    parser.add_argument("--top-k", type=int, help="draw from so many likeliest tokens; 0 from all")
    parser.add_argument("--top-p", type=float, help="draw from the tokens that reach this mass")
    parser.add_argument("--prompt", default="", help="how every document begins")
    parser.add_argument("--seed", type=int, help="of the draw; without it, another draw each time")
    options = parser.parse_args(words)
    from microgpt.sample import sample

    changes = {
        key: getattr(options, key) for key in ("num_samples", "temperature", "top_k", "top_p")
    }
    given = {key: value for key, value in changes.items() if value is not None}
    for text in sample(_outputs(), options.run, given, options.prompt, options.seed):
        print(text)


def _runs(words: Sequence[str]) -> None:
    parser = Parser("microgpt runs", description="List the runs, the latest last.")
    parser.add_argument("-n", type=int, default=20, help="how many at most; 0 all")
    options = parser.parse_args(words)
    from microgpt.console import list_runs
    from microgpt.run.folder import all_runs, latest_runs

    if options.n < 0:
        parser.error(f"argument -n: {options.n} must be at least 0")
    list_runs(latest_runs(_outputs(), options.n) if options.n else all_runs(_outputs()))


def _ui(words: Sequence[str]) -> None:
    parser = Parser("microgpt ui", description="Start the MLflow UI on the store.")
    parser.add_argument(
        "sweep",
        metavar="EXPERIMENT",
        type=_name,
        nargs="?",
        help="its latest sweep; or a sweep's id",
    )
    parser.add_argument("--port", type=int, default=5000, help="of the web server on this machine")
    parser.add_argument(
        "--uri", help="the store; else MLFLOW_TRACKING_URI, else the one in outputs"
    )
    options = parser.parse_args(words)
    from microgpt.ui import serve

    serve(options.uri, _outputs(), options.port, options.sweep)


def _sync(words: Sequence[str]) -> None:
    parser = Parser("microgpt sync", description="Send to MLflow what it has not got yet.")
    parser.add_argument(
        "runs",
        metavar="RUN",
        type=_name,
        nargs="*",
        help="which runs; without any, all, and all sweeps",
    )
    parser.add_argument("--uri", help="the store; else the one of each run's configuration")
    options = parser.parse_args(words)
    from microgpt.run.folder import all_runs, find_run
    from microgpt.run.sweep import all_sweeps
    from microgpt.tracking import is_tracked, sync

    outputs = _outputs()
    named = [find_run(outputs, name) for name in options.runs]
    sweeps = [] if named else [sweep for sweep in all_sweeps(outputs) if is_tracked(sweep)]
    runs = named or [run for run in all_runs(outputs) if is_tracked(run)]
    for line in sync([*sweeps, *runs], options.uri, outputs):
        print(line)


def _report(words: Sequence[str]) -> None:
    parser = Parser("microgpt report", description="Report the latest sweep of an experiment.")
    parser.add_argument(
        "name", metavar="EXPERIMENT", type=_name, help="or a sweep's id, or its run's in MLflow"
    )
    parser.add_argument(
        "--uri", help="the store; else MLFLOW_TRACKING_URI, else the one in outputs"
    )
    parser.add_argument("--out", metavar="DIR", default="experiments", help="where to write it")
    options = parser.parse_args(words)
    from microgpt.ablation.report import report

    report(options.name, options.uri, _outputs(), Path(options.out))


def _verify(words: Sequence[str]) -> int:
    parser = Parser("microgpt verify", description="Train again what is recorded, and compare.")
    parser.add_argument(
        "what", metavar="RUN | EXPERIMENT", type=_name, help="an id, a folder; a name"
    )
    parser.add_argument(
        "--uri", help="the store; else MLFLOW_TRACKING_URI, else the one in outputs"
    )
    parser.add_argument(
        "--data", type=Path, help="the documents, where the store has not kept them"
    )
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--sample", type=int, help="how many runs of an experiment; else a tenth")
    some.add_argument("--all", action="store_true", help="every run of an experiment")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of runs")
    options = parser.parse_args(words)
    from microgpt.ablation.verify import verify_run
    from microgpt.ablation.verify_lock import lock_of, recorded, verify_lock
    from microgpt.run.folder import NoSuchRun

    if lock := lock_of(options.what):
        count = sys.maxsize if options.all else options.sample
        return verify_lock(lock, count, options.seed, options.data)
    try:
        return verify_run(options.what, options.uri, _outputs(), options.data)
    except NoSuchRun as error:
        names = ", ".join(recorded())
        raise NoSuchRun(f"{error}; experiments are {names}" if names else f"{error}") from error


def _fork(words: Sequence[str]) -> int:
    parser = Parser("microgpt fork", description="Go on from a step of a run with changes.")
    parser.add_argument(
        "run", metavar="RUN", type=_name, help="folder, id, or the first letters of an id"
    )
    parser.add_argument("--at-step", type=int, required=True, help="where it branches off")
    parser.add_argument("--uri", help="the store of a run without a folder, and of the new one")
    parser.add_argument("changes", metavar="key=value", nargs="*", help="as for microgpt train")
    options = parser.parse_intermixed_args(words)
    from microgpt.ablation.fork import fork

    return fork(options.run, options.at_step, options.changes, options.uri, _outputs())


def _compare(words: Sequence[str]) -> None:
    parser = Parser("microgpt compare", description="Runs side by side, from the store.")
    parser.add_argument("runs", metavar="RUN", type=_name, nargs="+", help="two or more")
    parser.add_argument(
        "--uri", help="the store; else MLFLOW_TRACKING_URI, else the one in outputs"
    )
    options = parser.parse_args(words)
    from microgpt.ablation.compare import compare

    compare(options.runs, options.uri, _outputs())


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "sample": _sample,
    "runs": _runs,
    "ui": _ui,
    "sync": _sync,
    "report": _report,
    "verify": _verify,
    "fork": _fork,
    "compare": _compare,
}

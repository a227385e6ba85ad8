"""The command line: `microgpt COMMAND ...`, as USAGE lists them."""

import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING

from microgpt.secret import keep_all
from microgpt.signals import handled, interrupt
from microgpt.terminal import WRONG_INPUT, Parser, add_trust, complain

if TYPE_CHECKING:
    from microgpt.trust import Trust

USAGE = """usage: microgpt COMMAND ...

  train [key=value ...]   train a model and track it     (microgpt train --help)
  variants                list the options of all groups, with their sources
  sample RUN              draw documents from a run      (microgpt sample --help)
  runs                    list the runs
  ui [EXPERIMENT]         start the MLflow UI and print the address of a sweep's runs
  sync [RUN ...]          send to MLflow what it is missing
  compare RUN RUN ...     compare configurations, final metrics and curves of runs
  verify RUN              train a run again and compare it with the store, bit for bit
  verify EXPERIMENT       the same for runs of experiments/EXPERIMENT, from its lock file
  fork RUN --at-step N    continue from a step of a run with changes (microgpt fork --help)
  judge BASE CANDIDATE    is a change an improvement, or luck?   (microgpt judge --help)
  report EXPERIMENT       write the table, figures and verdict of a sweep
  register RUN --name N   a run's model in MLflow's registry, to load or to serve
  --version               print the version

RUN is a run's folder, its id, its MLflow id, or a prefix of an id."""
STORE = "the store; default: MLFLOW_TRACKING_URI, else mlflow.db in outputs"


def main() -> None:
    """The console script.

    Exit codes: 0, 1 for a run that failed, 2 for wrong input, 130 for Ctrl-C, 143 for SIGTERM.
    """
    keep_all(sys.argv)
    try:
        with handled(interrupt):
            try:
                _main(sys.argv[1:])
            finally:
                sys.stdout.flush()
    except BrokenPipeError:  # the output was closed, as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as error:
        complain("interrupted")
        sys.exit(128 + getattr(error, "number", SIGINT))


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
        complain(f"{words[0]}: no such command; commands are train, {', '.join(COMMANDS)}")
        sys.exit(WRONG_INPUT)


def _train(words: Sequence[str]) -> None:
    from microgpt.app import run_app

    sys.exit(run_app(words))


def _complete(words: Sequence[str]) -> None:
    """Tab completion: of commands here, of overrides by Hydra, which gets the line without `train`."""
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
    from microgpt.run.folder import usual_outputs

    return usual_outputs()


def _trust(options: Namespace) -> "Trust":
    from microgpt.trust import trust_of

    return trust_of(options.trust, options.config_dir)


def _name(text: str) -> str:
    """The argument that names a run, a sweep or an experiment."""
    if not text.strip():
        raise ArgumentTypeError(f"{text!r} must name one")
    return text


def _sample(words: Sequence[str]) -> None:
    parser = Parser("microgpt sample", description="Draw documents from a run's last checkpoint.")
    parser.add_argument("run", metavar="RUN", type=_name, help="folder, id, or a prefix of an id")
    parser.add_argument("-n", "--num-samples", type=int, help="number of documents")
    parser.add_argument("--temperature", type=float, help="0 takes the most likely token")
    parser.add_argument("--top-k", type=int, help="sample from the k most likely tokens; 0: all")
    parser.add_argument("--top-p", type=float, help="sample from the top tokens of this total mass")
    parser.add_argument("--prompt", default="", help="the beginning of every document")
    parser.add_argument("--seed", type=int, help="makes the samples reproducible")
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.sample import sample

    changes = {
        key: getattr(options, key) for key in ("num_samples", "temperature", "top_k", "top_p")
    }
    given = {key: value for key, value in changes.items() if value is not None}
    trust = _trust(options)
    for text in sample(_outputs(), options.run, given, options.prompt, options.seed, trust):
        print(text)


def _variants(words: Sequence[str]) -> None:
    parser = Parser("microgpt variants", description="List the options of all groups.")
    parser.add_argument("--markdown", action="store_true", help="as the page conf/README.md")
    options = parser.parse_args(words)
    from microgpt.variants import page, table, variants

    for line in (page if options.markdown else table)(variants()):
        print(line)


def _runs(words: Sequence[str]) -> None:
    parser = Parser("microgpt runs", description="List the runs, the latest last.")
    parser.add_argument("-n", type=int, default=20, help="number of runs; 0 for all")
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
        help="show its latest sweep, or the sweep with this id",
    )
    parser.add_argument("--port", type=int, default=5000, help="of the local web server")
    parser.add_argument("--uri", help=STORE)
    options = parser.parse_args(words)
    from microgpt.ui import serve

    serve(options.uri, _outputs(), options.port, options.sweep)


def _sync(words: Sequence[str]) -> None:
    parser = Parser("microgpt sync", description="Send to MLflow what it is missing.")
    parser.add_argument(
        "runs",
        metavar="RUN",
        type=_name,
        nargs="*",
        help="default: all runs and sweeps",
    )
    parser.add_argument("--uri", help="the store; default: that of each run's configuration")
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
        "name", metavar="EXPERIMENT", type=_name, help="or a sweep's id, or its MLflow run id"
    )
    parser.add_argument("--uri", help=STORE)
    parser.add_argument("--out", metavar="DIR", default="experiments", help="the output folder")
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.ablation.report.report import report

    report(options.name, options.uri, _outputs(), Path(options.out), _trust(options))


def _verify(words: Sequence[str]) -> int:
    parser = Parser("microgpt verify", description="Train recorded runs again, and compare.")
    parser.add_argument(
        "what", metavar="RUN | EXPERIMENT", type=_name, help="a run's id or folder; a name"
    )
    parser.add_argument("--uri", help=STORE)
    parser.add_argument("--data", type=Path, help="the documents, if the store did not keep them")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--sample", type=int, help="runs of an experiment; default: a tenth")
    some.add_argument("--all", action="store_true", help="every run of an experiment")
    parser.add_argument("--seed", type=int, default=0, help="selects the sampled runs")
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.ablation.verify import verify_run
    from microgpt.ablation.verify_lock import lock_of, recorded, verify_lock
    from microgpt.run.folder import NoSuchRun

    trust = _trust(options)
    if lock := lock_of(options.what):
        count = sys.maxsize if options.all else options.sample
        return verify_lock(lock, count, options.seed, options.data, trust)
    try:
        return verify_run(options.what, options.uri, _outputs(), options.data, trust)
    except NoSuchRun as error:
        names = ", ".join(recorded())
        raise NoSuchRun(f"{error}; experiments are {names}" if names else f"{error}") from error


def _fork(words: Sequence[str]) -> int:
    parser = Parser("microgpt fork", description="Continue from a step of a run with changes.")
    parser.add_argument("run", metavar="RUN", type=_name, help="folder, id, or a prefix of an id")
    parser.add_argument("--at-step", type=int, required=True, help="where it branches off")
    parser.add_argument("--uri", help="the store of the new run, and of RUN if it has no folder")
    parser.add_argument("changes", metavar="key=value", nargs="*", help="as for microgpt train")
    add_trust(parser)
    options = parser.parse_intermixed_args(words)
    from microgpt.ablation.fork import fork

    trust = _trust(options)
    return fork(options.run, options.at_step, options.changes, options.uri, _outputs(), trust)


def _compare(words: Sequence[str]) -> None:
    parser = Parser("microgpt compare", description="Compare runs of the store.")
    parser.add_argument("runs", metavar="RUN", type=_name, nargs="+", help="two or more")
    parser.add_argument("--uri", help=STORE)
    options = parser.parse_args(words)
    from microgpt.ablation.compare import compare

    compare(options.runs, options.uri, _outputs())


JUDGED = """Train pairs of runs that share their seeds, in parallel, until the candidate's
held-out loss is known to be lower or higher than the base's, or equivalent, or --most pairs are spent.
The arms are judged by test/loss if both have a test part (data.test_fraction), else by val/loss; the
interval holds at any time, over seeds, for these documents. Exit codes: 0 better, 10 equivalent, 11 worse,
12 undecided, 1 if a run failed, 2 for wrong input. The same command goes on where it was stopped."""


def _judge(words: Sequence[str]) -> int:
    parser = Parser("microgpt judge", description=JUDGED)
    arm = "overrides in one word, as 'model.n_embd=12 optimizer.lr=0.02' or '', or a run"
    parser.add_argument("base", metavar="BASE", help=arm)
    parser.add_argument(
        "candidate", metavar="CANDIDATE", help="likewise; a seed=K of its own: not paired"
    )
    parser.add_argument("words", metavar="key=value", nargs="*", help="overrides of both")
    parser.add_argument("--matters", type=float, default=0.01, help="nats per token; default 0.01")
    parser.add_argument("--most", type=int, default=50, help="pairs of runs; default 50")
    parser.add_argument("--workers", type=int, help="processes; default: one per core")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_trust(parser)
    options = parser.parse_intermixed_args(words)
    from microgpt.ablation.judge.arms import pair_of
    from microgpt.ablation.judge.judge import judge
    from microgpt.core.check import integer, positive

    matters, most = positive("--matters", options.matters), integer("--most", options.most, 5)
    if options.workers is not None:
        integer("--workers", options.workers, 1)
    folder = Path(options.config_dir) if options.config_dir else None
    arms = options.base, options.candidate, options.words
    pair = pair_of(*arms, folder, _outputs(), _trust(options))
    return judge(pair, matters, most, options.workers, options.json)


def _register(words: Sequence[str]) -> None:
    parser = Parser("microgpt register", description="Register a run's model in MLflow.")
    parser.add_argument("run", metavar="RUN", type=_name, help="folder, id, or a prefix of an id")
    parser.add_argument("--name", type=_name, required=True, help="the registered model's")
    parser.add_argument("--uri", help=STORE)
    add_trust(parser, config_dir=False)
    options = parser.parse_args(words)
    from microgpt.serving.register import register

    register(options.run, options.name, options.uri, _outputs(), options.trust)


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "variants": _variants,
    "sample": _sample,
    "runs": _runs,
    "ui": _ui,
    "sync": _sync,
    "judge": _judge,
    "report": _report,
    "register": _register,
    "verify": _verify,
    "fork": _fork,
    "compare": _compare,
}

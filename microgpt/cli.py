"""The command line: `microgpt COMMAND ...`, as USAGE lists them."""

import json
import os
import sys
from argparse import Action
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from io import StringIO, TextIOWrapper
from pathlib import Path
from signal import SIGINT

from microgpt.commands import inside, listing, results
from microgpt.commands.common import STORE, add_json, name, outputs_folder, trust_in
from microgpt.secret import keep_all
from microgpt.signals import handled, interrupt
from microgpt.terminal import WRONG_INPUT, Parser, add_trust, complain

USAGE = """usage: microgpt COMMAND ...

  train [key=value ...]   train a model and track it     (microgpt train --help)
  variants                list the options of all groups, with their sources
  sample RUN              draw documents from a run      (microgpt sample --help)
  inspect RUN ...         write a page about what is inside a run's model
  runs, sweeps            list the runs, or the sweeps   (microgpt runs --help)
  ui [RUN | SWEEP]        start the MLflow UI and print the address of a run, or of a sweep's runs
  rm RUN | SWEEP ...      remove runs and sweeps, here and in the store
  sync [RUN ...]          send to MLflow what it is missing
  compare RUN RUN ...     compare configurations, final metrics and curves of runs; or SWEEP SWEEP
  verify RUN              train a run again and compare it with the store, bit for bit
  verify EXPERIMENT       the same for runs of an experiment's report, from its lock file
  fork RUN --at-step N    continue from a step of a run with changes (microgpt fork --help)
  judge BASE CANDIDATE    is a change an improvement, or luck?   (microgpt judge --help)
  report EXPERIMENT       write the table, figures and verdict of a sweep
  register RUN --name N   a run's model in MLflow's registry, to load or to serve
  --version               print the version

RUN is a run's folder, its id, its MLflow id, or a prefix of an id; SWEEP likewise, or an experiment.
SWEEP/best, for sample, inspect, verify, fork and register, is its run with the lowest held-out loss."""


def main() -> None:
    """The console script.

    Exit codes: 0, 1 for a run that failed, 2 for wrong input, 130 for Ctrl-C, 143 for SIGTERM.
    """
    keep_all(sys.argv)
    if isinstance(sys.stdout, TextIOWrapper):
        # Its encoding may lack characters of a record, or a path.
        sys.stdout.reconfigure(errors="backslashreplace")
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
        names = ["train", *COMMANDS]
        near = get_close_matches(words[0], names, 1)
        advice = f"did you mean {near[0]}?" if near else f"commands are {', '.join(names)}"
        complain(f"{words[0]}: no such command; {advice}")
        sys.exit(WRONG_INPUT)


def _train(words: Sequence[str]) -> None:
    from microgpt.app import run_app

    sys.exit(run_app(words))


def _complete(words: Sequence[str]) -> None:
    """Tab completion: its installation, or what `_completions` finds, without a complaint amid the line."""
    if not any(word.startswith("query=") for word in words):
        _train(words)
    from microgpt.commands.completion import proposed

    with redirect_stderr(StringIO()):
        found = _completions(words)
    print(proposed(found))


def _completions(words: Sequence[str]) -> Sequence[str]:
    """What the last word may become; of overrides by Hydra, which gets the line without `train`."""
    line = os.environ.get("COMP_LINE", "").lstrip()
    program, _, rest = line.partition(" ")
    command, space, overrides = rest.lstrip().partition(" ")
    if not space:
        return [name for name in ("train", *COMMANDS) if name.startswith(command)]
    from microgpt.commands.completion import completed
    from microgpt.terminal import config_dir

    typed = overrides.split(" ")
    found = completed(command, typed, _options(command), outputs_folder())
    if found is not None:
        return found
    from microgpt.app import run_app

    os.environ["COMP_LINE"] = f"{program} {overrides}"
    with redirect_stdout(StringIO()) as said, suppress(SystemExit):
        run_app([*words, *config_dir(typed)])
    return said.getvalue().split()


def _options(command: str) -> Mapping[str, Action]:
    """The options of a command, from the parser that it makes for `--help`."""
    if command == "train":
        from microgpt.app import flags

        return flags().options
    if command not in COMMANDS:
        return {}
    with redirect_stdout(StringIO()), suppress(SystemExit):
        COMMANDS[command](["--help"])
    return Parser.latest.options


def _sample(words: Sequence[str]) -> None:
    parser = Parser("microgpt sample", description="Draw documents from a run's last checkpoint.")
    parser.add_argument("run", metavar="RUN", type=name, help="folder, id, or a prefix of an id")
    parser.add_argument("-n", "--num-samples", type=int, help="number of documents")
    parser.add_argument("--temperature", type=float, help="0 takes the most likely token")
    parser.add_argument("--top-k", type=int, help="sample from the k most likely tokens; 0: all")
    parser.add_argument("--top-p", type=float, help="sample from the top tokens of this total mass")
    parser.add_argument("--prompt", default="", help="the beginning of every document")
    parser.add_argument("--seed", type=int, help="makes the samples reproducible")
    parser.add_argument("--uri", help="the store of a run that has no folder here")
    add_json(parser)
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.ablation.records.record import folder_of
    from microgpt.sample import sample

    changes = {
        key: getattr(options, key) for key in ("num_samples", "temperature", "top_k", "top_p")
    }
    given = {key: value for key, value in changes.items() if value is not None}
    trust = trust_in(options)
    with folder_of(options.run, options.uri, outputs_folder()) as run:
        drawn = sample(run, given, options.prompt, options.seed, trust)
        if options.json:
            print(json.dumps(list(drawn), indent=1, ensure_ascii=False))
            return
        for text in drawn:
            print(text)


def _variants(words: Sequence[str]) -> None:
    parser = Parser("microgpt variants", description="List the options of all groups.")
    parser.add_argument("--markdown", action="store_true", help="as the page conf/README.md")
    add_json(parser)
    options = parser.parse_args(words)
    from microgpt.variants import page, table, variants

    if options.json:
        print(json.dumps([option._asdict() for option in variants()], indent=1))
        return
    for line in (page if options.markdown else table)(variants()):
        print(line)


def _ui(words: Sequence[str]) -> None:
    parser = Parser("microgpt ui", description="Start the MLflow UI on the store.")
    parser.add_argument(
        "sweep",
        metavar="RUN | SWEEP",
        type=name,
        nargs="?",
        help="show this run or sweep; of an experiment the latest sweep",
    )
    parser.add_argument("--port", type=int, default=5000, help="of the local web server")
    parser.add_argument("--uri", help=STORE)
    options = parser.parse_args(words)
    from microgpt.ui import serve

    serve(options.uri, outputs_folder(), options.port, options.sweep)


def _sync(words: Sequence[str]) -> None:
    parser = Parser("microgpt sync", description="Send to MLflow what it is missing.")
    parser.add_argument(
        "runs",
        metavar="RUN | SWEEP",
        type=name,
        nargs="*",
        help="default: all runs and sweeps",
    )
    parser.add_argument("--uri", help="the store; default: that of each run's configuration")
    add_json(parser)
    options = parser.parse_args(words)
    from microgpt.run.find import find_folder
    from microgpt.run.folder import all_runs
    from microgpt.run.sweep import all_sweeps
    from microgpt.tracking import is_tracked, sync

    outputs = outputs_folder()
    named = [find_folder(outputs, name) for name in options.runs]
    sweeps = [] if named else [sweep for sweep in all_sweeps(outputs) if is_tracked(sweep)]
    runs = named or [run for run in all_runs(outputs) if is_tracked(run)]
    told = []
    try:
        for sent in sync([*sweeps, *runs], options.uri, outputs):
            told.append(sent._asdict())
            if not options.json:
                print(sent)
    finally:
        if options.json:
            print(json.dumps(told, indent=1))


def _fork(words: Sequence[str]) -> int:
    parser = Parser("microgpt fork", description="Continue from a step of a run with changes.")
    parser.add_argument("run", metavar="RUN", type=name, help="folder, id, or a prefix of an id")
    parser.add_argument("--at-step", type=int, required=True, help="where it branches off")
    parser.add_argument("--uri", help="the store of the new run, and of RUN if it has no folder")
    parser.add_argument("changes", metavar="key=value", nargs="*", help="as for microgpt train")
    add_trust(parser)
    options = parser.parse_intermixed_args(words)
    from microgpt.ablation.fork import fork

    trust = trust_in(options)
    return fork(options.run, options.at_step, options.changes, options.uri, outputs_folder(), trust)


def _compare(words: Sequence[str]) -> None:
    parser = Parser("microgpt compare", description="Compare runs, or two sweeps, of the store.")
    parser.add_argument(
        "runs", metavar="RUN | SWEEP", type=name, nargs="+", help="two or more runs"
    )
    parser.add_argument("--uri", help=STORE)
    add_json(parser)
    options = parser.parse_args(words)
    from microgpt.ablation.compare import compare

    compare(options.runs, options.uri, outputs_folder(), options.json)


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
    add_json(parser)
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
    pair = pair_of(*arms, folder, outputs_folder(), trust_in(options))
    return judge(pair, matters, most, options.workers, options.json)


def _register(words: Sequence[str]) -> None:
    parser = Parser("microgpt register", description="Register a run's model in MLflow.")
    parser.add_argument("run", metavar="RUN", type=name, help="folder, id, or a prefix of an id")
    parser.add_argument("--name", type=name, required=True, help="the registered model's")
    parser.add_argument("--uri", help=STORE)
    add_json(parser)
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.serving.register import register

    register(
        options.run, options.name, options.uri, outputs_folder(), trust_in(options), options.json
    )


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "variants": _variants,
    "sample": _sample,
    "runs": listing.runs,
    "sweeps": listing.sweeps,
    "inspect": inside.inspect,
    "rm": listing.rm,
    "ui": _ui,
    "sync": _sync,
    "judge": _judge,
    "report": results.report,
    "register": _register,
    "verify": results.verify,
    "fork": _fork,
    "compare": _compare,
}

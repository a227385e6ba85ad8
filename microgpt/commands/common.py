"""What the arguments of several commands have in common."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microgpt.trust import Trust

REPORTS = "reports"  # in the outputs: reports that are not published
STORE = "the store; default: MLFLOW_TRACKING_URI, else mlflow.db in outputs"


def outputs_folder() -> Path:
    """The folder that all runs are written to."""
    from microgpt.run.folder import usual_outputs  # late: `--help` must not wait for it

    return usual_outputs()


def name(text: str) -> str:
    """The argument that names a run, a sweep or an experiment."""
    if not text.strip():
        raise ArgumentTypeError(f"{text!r} must name one")
    return text


def add_json(parser: ArgumentParser) -> None:
    """Adds the option for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON: see docs/programs.md")


def aside(as_json: bool) -> AbstractContextManager[Any]:
    """What is said for people goes to standard error, if JSON is asked for."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def trust_in(options: Namespace) -> "Trust":
    """What a record may name, by the options that `add_trust` adds."""
    from microgpt.trust import trust_of

    return trust_of(options.trust, options.config_dir)

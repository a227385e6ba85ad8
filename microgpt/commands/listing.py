"""`microgpt runs`, `sweeps` and `rm`: what there is, and how it goes."""

import json
from collections.abc import Sequence

from microgpt.commands.common import STORE, add_json, aside, name, outputs_folder
from microgpt.terminal import Parser

LATEST = 20
RUN_KEYS = ("begun", "held-out", "test", "params", "step", "name", "status")
STATUSES = ("running", "finished", "failed", "stopped", "killed", "refused")


def runs(words: Sequence[str]) -> None:
    """`microgpt runs`."""
    parser = Parser("microgpt runs", description="List the runs, the latest last.")
    parser.add_argument("-n", type=int, help=f"number of runs, 0 for all; default {LATEST}")
    parser.add_argument("--sort", choices=RUN_KEYS, default="begun", help="lowest first")
    parser.add_argument("--status", choices=STATUSES, help="only runs with this status")
    parser.add_argument("--name", metavar="TEXT", help="only runs with this in their name")
    parser.add_argument("--sweep", metavar="SWEEP", type=name, help="only runs of this sweep")
    parser.add_argument("--uri", help=f"list what is in {STORE}")
    add_json(parser)
    options = parser.parse_args(words)
    from microgpt.listing import Wanted, list_runs

    count = LATEST if options.n is None else options.n
    if count < 0:
        parser.error(f"argument -n: {count} must be at least 0")
    wanted = Wanted(count, options.sort, options.status, options.name, options.sweep)
    list_runs(outputs_folder(), options.uri, wanted, options.json)


def sweeps(words: Sequence[str]) -> None:
    """`microgpt sweeps`."""
    parser = Parser("microgpt sweeps", description="List the sweeps, the latest last.")
    parser.add_argument("--uri", help=f"list what is in {STORE}")
    add_json(parser)
    options = parser.parse_args(words)
    from microgpt.listing import list_sweeps

    list_sweeps(outputs_folder(), options.uri, options.json)


REMOVED = """Remove runs and sweeps, here and in their store. A sweep goes with those of its runs that no
other sweep has. A store that is a server keeps them until `mlflow gc` is run there."""


def rm(words: Sequence[str]) -> None:
    """`microgpt rm`."""
    parser = Parser("microgpt rm", description=REMOVED)
    parser.add_argument("names", metavar="RUN | SWEEP", type=name, nargs="+", help="what to remove")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_json(parser)
    options = parser.parse_args(words)
    from microgpt.remove import remove

    with aside(options.json):
        gone = remove(options.names, outputs_folder(), options.yes)
    if options.json:
        print(json.dumps(gone._asdict(), indent=1))

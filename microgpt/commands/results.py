"""`microgpt report` and `verify`: the result of a sweep, and whether it can be had again."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from microgpt.commands.common import REPORTS, STORE, add_json, aside, name, outputs_folder, trust_in
from microgpt.terminal import Parser, add_trust

if TYPE_CHECKING:
    from microgpt.ablation.reproduce.shared import Shared

ANSWERS = ("bit-exact", "differs", "cannot be repeated")  # by the exit codes of `verify`


def report(words: Sequence[str]) -> None:
    """`microgpt report`."""
    parser = Parser("microgpt report", description="Report the latest sweep of an experiment.")
    parser.add_argument(
        "name", metavar="EXPERIMENT", type=name, help="or a sweep's id, or its MLflow run id"
    )
    parser.add_argument("--uri", help=STORE)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--out", metavar="DIR", help="where to write it; default: outputs/reports")
    place.add_argument("--publish", action="store_true", help="the same as --out experiments")
    parser.add_argument(
        "--from-lock", action="store_true", help="its page anew, from the lock in that place"
    )
    parser.add_argument("--data", type=Path, help="with --from-lock: the lock's documents")
    add_json(parser)
    add_trust(parser)
    options = parser.parse_args(words)
    from microgpt.ablation.evidence.lock import LOCK
    from microgpt.ablation.report.report import report as write
    from microgpt.ablation.reproduce.renew import renew

    own = Path("experiments") if options.publish else outputs_folder() / REPORTS
    place_of, trust = Path(options.out or own), trust_in(options)
    with aside(options.json):
        if options.from_lock:
            refuse("--uri", options.uri, "not with --from-lock, which needs no store")
            folder = renew(options.name, place_of, options.data, trust)
        else:
            refuse("--data", options.data, "only with --from-lock: a store has its documents")
            folder = write(options.name, options.uri, outputs_folder(), place_of, trust)
    if options.json:
        print((folder / LOCK).read_text(encoding="utf-8"), end="")


def refuse(option: str, value: Any, allowed: str) -> None:
    """Raises BadValue if an option was given."""
    from microgpt.core.check import BadValue

    if value is not None:
        raise BadValue(option, str(value), allowed)


def verify(words: Sequence[str]) -> int:
    """`microgpt verify`."""
    parser = Parser("microgpt verify", description="Train recorded runs again, and compare.")
    parser.add_argument(
        "what",
        metavar="RUN | EXPERIMENT",
        nargs="?",
        type=name,
        help="a run's id or folder; a name; none: every experiment that has a report",
    )
    parser.add_argument("--uri", help=STORE)
    parser.add_argument("--data", type=Path, help="the documents, if the store did not keep them")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--sample", type=int, help="runs of an experiment; default: a tenth")
    some.add_argument("--all", action="store_true", help="every run of an experiment")
    some.add_argument("--segments", type=int, metavar="K", help="of a run, between its checkpoints")
    parser.add_argument("--seed", type=int, help="draws the same again; default: others each time")
    add_json(parser)
    add_trust(parser)
    options = parser.parse_args(words)
    with aside(options.json):
        codes = {options.what: _verified(options.what, options)} if options.what else _all(options)
    answers = [{"what": what, "answer": ANSWERS[code]} for what, code in codes.items()]
    if options.json:
        print(json.dumps(answers[0] if options.what else answers, indent=1))
    return max(codes.values())


def _all(options: Any) -> dict[str, int]:
    """The exit code of each experiment that has a report. Raises BadValue and NoSuchRun."""
    from microgpt.console import out

    names, begun, codes = _asked(options), monotonic(), dict[str, int]()
    runs = "all runs" if options.all else "a tenth of the runs (--sample 1: one)"
    if options.sample is not None:
        runs = f"{options.sample} of the runs"
    told = f"{len(names)} experiments, one after the other by name; trained again of each: {runs}"
    out.print(told, markup=False)
    shared = _shared(names)
    for number, what in enumerate(names, 1):
        seconds = monotonic() - begun
        out.print(f"\n{number} of {len(names)}: {what}, after {seconds:.0f} s", markup=False)
        codes[what] = _verified(what, options, shared)
    out.print(f"\nafter {monotonic() - begun:.0f} s", markup=False)
    for code, answer in enumerate(ANSWERS):
        if found := [what for what in names if codes[what] == code]:
            which = f": {', '.join(found)}" if code else ""
            out.print(f"{answer}: {len(found)} of {len(names)}{which}", markup=False)
    return codes


def _asked(options: Any) -> list[str]:
    """The experiments that have a report. Raises BadValue and NoSuchRun."""
    from microgpt.ablation.reproduce.verify_lock import recorded
    from microgpt.core.check import BadValue
    from microgpt.run.folder import NoSuchRun

    if options.segments is not None:
        raise BadValue("--segments", options.segments, "of one run: name it")
    names = recorded(outputs_folder() / REPORTS)
    if not names:
        raise NoSuchRun("no experiment has a report; `microgpt report EXPERIMENT` writes one")
    return names


def _shared(names: Sequence[str]) -> "Shared":
    """What is known of the runs that several of these experiments have. Raises BadRecord."""
    from microgpt.ablation.reproduce.shared import Shared
    from microgpt.ablation.reproduce.verify_lock import lock_of

    reports = outputs_folder() / REPORTS
    return Shared(lock for what in names if (lock := lock_of(what, reports)))


def _verified(what: str, options: Any, shared: "Shared | None" = None) -> int:
    """The exit code. Raises NoSuchRun, BadValue, BadRecord and Untrusted."""
    from microgpt.ablation.reproduce.stretches import Stretches
    from microgpt.ablation.reproduce.verify import verify_run
    from microgpt.ablation.reproduce.verify_lock import lock_of, recorded, verify_lock
    from microgpt.core.check import integer
    from microgpt.run.folder import NoSuchRun

    trust, reports, part = trust_in(options), outputs_folder() / REPORTS, None
    if options.segments is not None:
        part = Stretches(integer("--segments", options.segments, 1), options.seed)
    if part is None and (lock := lock_of(what, reports)):
        count = sys.maxsize if options.all else options.sample
        return verify_lock(lock, count, options.seed, options.data, trust, shared)
    try:
        return verify_run(what, options.uri, outputs_folder(), options.data, trust, part)
    except NoSuchRun as error:
        names = ", ".join(recorded(reports))
        raise NoSuchRun(f"{error}; experiments are {names}" if names else f"{error}") from error

"""Check the locks of the experiments, and train again what other code answered.

Every lock has its digest, its files and the sources of its runs checked. Of one that the commit draws,
or of all with `--all`, every number is computed again and the protocol is compared with today's
configuration. Where the runs are of other code than today's, all are trained again if they are few,
else one.
"""

import subprocess
import sys
from collections.abc import Mapping
from random import Random
from typing import Any

from microgpt.ablation.evidence.lock import config_of, read_lock
from microgpt.ablation.reproduce.retrain import built_again
from microgpt.ablation.reproduce.verify_lock import (
    altered,
    contradicted,
    lock_of,
    recorded,
    verify_lock,
)
from microgpt.core.check import BadValue
from microgpt.run.reading import BadRecord
from microgpt.run.record import FINISHED
from microgpt.train import code_of
from microgpt.trust import OURS_ALONE, replayed

FEW = 10  # runs


def source_now(lock: Mapping[str, Any], run: Mapping[str, Any]) -> str | None:
    """The source of the code that would answer a run's question today."""
    try:
        source: str = code_of(replayed(config_of(lock, run), OURS_ALONE))["source"]
    except ModuleNotFoundError:  # the configuration names a module that is no more
        return None
    return source


def check(name: str, computed: bool) -> int:
    """Say what becomes of an experiment; returns an exit code. Raises BadValue, BadRecord."""
    path = lock_of(name)
    assert path is not None
    lock = read_lock(path)
    finished = [run for run in lock["runs"] if run["status"] == FINISHED]
    one_of = {run["arm"]: run for run in finished}
    now = {arm: source_now(lock, run) for arm, run in one_of.items()}
    others = [run for run in finished if run["source"] != now[run["arm"]]]
    if others:
        print(
            f"{name}: {len(others)} of {len(finished)} runs by other code than today's", flush=True
        )
        return verify_lock(path, len(finished) if len(finished) <= FEW else 1, 0, None)
    found = altered(lock, path)
    if computed:
        base = built_again(lock, finished[0], None, OURS_ALONE)
        found = contradicted(lock, path, base, OURS_ALONE)
    if found:
        print(f"{name}: {found.verdict}: {found.says}")
        return 1
    numbers = "its numbers follow from them" if computed else "its numbers are not computed again"
    print(f"{name}: {len(finished)} runs, by today's code; its files are as written; {numbers}")
    return 0


def main() -> int:
    names = recorded()
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True)
    drawn = names if "--all" in sys.argv else [Random(commit).choice(names)]
    try:
        return max([check(name, name in drawn) for name in names])
    except (BadValue, BadRecord) as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())

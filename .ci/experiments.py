"""Check every experiment's lock and page, and train again what other code answered.

An experiment whose lock names the source of today's code has figures that this code gave: nothing is
trained again. Of one that differs all runs are, if they are few, else one.
"""

import sys
from collections.abc import Mapping
from typing import Any

from microgpt.ablation.evidence.lock import config_of, read_lock
from microgpt.ablation.reproduce.retrain import built_again
from microgpt.ablation.reproduce.verify_lock import contradicted, lock_of, recorded, verify_lock
from microgpt.core.check import BadValue
from microgpt.run.record import FINISHED
from microgpt.train import code_of
from microgpt.trust import OURS_ALONE, replayed

FEW = 10


def differs(lock: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether other code answered a run's question than would today."""
    try:
        now: str = code_of(replayed(config_of(lock, run), OURS_ALONE))["source"]
    except ModuleNotFoundError:  # the configuration names a module that is no more
        return True
    return now != run["source"]


def check(name: str) -> int:
    """Say what becomes of an experiment; returns an exit code. Raises BadValue."""
    path = lock_of(name)
    assert path is not None
    lock = read_lock(path)
    finished = [run for run in lock["runs"] if run["status"] == FINISHED]
    others = [run for run in finished if differs(lock, run)]
    if others:
        print(
            f"{name}: {len(others)} of {len(finished)} runs by other code than today's", flush=True
        )
        return verify_lock(path, len(finished) if len(finished) <= FEW else 1, 0, None)
    base = built_again(lock, finished[0], None, OURS_ALONE)
    if found := contradicted(lock, path, base, OURS_ALONE):
        print(f"{name}: {found.verdict}: {found.says}")
        return 1
    print(
        f"{name}: its {len(finished)} runs are by today's code, its table and page are theirs: skipped"
    )
    return 0


def main() -> int:
    try:
        return max([check(name) for name in recorded()])
    except BadValue as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())

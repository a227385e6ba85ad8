"""kill -9 between the looks at a sweep whose seeds are added until they are enough."""

import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from microgpt.ablation.records.store import client_of
from microgpt.ablation.report.report import examine
from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from tests.conftest import Here
from tests.faults.conftest import Noted
from tests.faults.whole import begin, check_equal, check_store, ended, family_of, kill, samples
from tests.running import figures, wait_until
from tests.sweeps import address
from tests.test_sequence import FILE, TINY

LOOK = re.compile(r"^after (\d+) of at most 13 seeds: (.+)$", re.MULTILINE)
LOOKS = [("5", "undecided"), ("9", "supported")]
JOBS = 18  # at the look that decides


def written(outputs: Path) -> dict[str, int]:
    """When the record of each finished run was written, by the name of its folder."""
    paths = [run.path for run in all_runs(outputs) if run.status == FINISHED]
    return {path.name: (path / "run.json").stat().st_mtime_ns for path in paths}


def killed(outputs: Path, words: Sequence[str], moment: int) -> bool:
    """A command, killed with all its processes when so many runs are finished; whether it died of it."""
    process = begin(outputs, *words)
    wait_until(lambda: len(written(outputs)) >= moment or process.poll() is not None)
    dead = kill(process, everything=True, outputs=outputs)
    wait_until(lambda: not family_of(outputs))
    return dead


@samples(0, 10)
def test_kills_between_looks(
    times: int,
    outputs: Path,
    here: Here,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noted: Noted,
) -> None:
    """Each in outputs of its own; the same command again comes to the same end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/seq.yaml").write_text(FILE.format(matters=0.01))
    words = ["train", "-m", "--config-dir", str(tmp_path / "own"), "experiment=seq", *TINY]
    words += ["engine=vector", "trainer.checkpoint_every=10"]
    said, _ = here(tmp_path / "whole", *words, "hydra/launcher=basic", "tracking=none")
    assert LOOK.findall(said) == LOOKS
    whole = {run.path.name: figures(run) for run in all_runs(tmp_path / "whole")}
    dead = kept = count = 0
    for i in range(times):
        place = tmp_path / f"killed{i}"
        shutil.copytree(outputs, place)
        moment = random.Random(i).randrange(1, JOBS)
        dead += killed(place, words, moment)
        before = written(place)
        assert LOOK.findall(ended(begin(place, *words), 0)) == LOOKS
        after = written(place)
        assert {name: after[name] for name in before} == before  # none was trained twice
        assert after.keys() == whole.keys()
        check_equal(all_runs(place), whole)
        count += check_store(place)
        client, store = client_of(address(place), place)
        lock = examine(client, "seq", store)[1]
        told = [(str(look["seeds"]), look["answer"]) for look in lock["stopped"]["looks"]]
        assert (lock["verdict"], told) == ("supported", LOOKS)
        kept += len(before)
    seen = f"{dead} died, with {kept} of {times * JOBS} jobs finished; {count:,} figures; "
    seen += "the looks and the verdict were those of a sweep that nobody disturbed"
    noted(
        "kill -9 in a sweep whose seeds are added until they are enough, of all processes",
        times,
        seen,
    )

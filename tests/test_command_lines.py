"""Any command line: a trained step, or one clear line, exit code 2 and nothing written."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from microgpt.run.folder import all_runs
from microgpt.run.record import FAILED, FINISHED
from tests.command import NAMES, OFFLINE, TINY, Ended, Within, files
from tests.command_lines import command_lines

# A step of a tiny run; the jobs of a sweep are trained in this process.
BASE = [
    *("train", *TINY, *OFFLINE, "data.path=names.txt", "trainer.num_steps=1", "engine=vector"),
    *("trainer.checkpoint_every=0", "hydra/launcher=basic"),
]


def is_trained_or_refused(ended: Ended, place: Path, before: list[str]) -> None:
    """Checks how a command line ended, by its exit code."""
    assert all(line.startswith("microgpt: ") for line in ended.err.splitlines()), ended
    if ended.code == 2:
        assert (ended.out, ended.err.count("\n"), files(place)) == ("", 1, before), ended
        assert len(ended.err) < 400
    else:  # what did not begin, or failed, are combinations of a sweep that has others
        assert ended.code in (0, 1), ended
        ends = {run.status for run in all_runs(place / "outputs")}
        assert ends <= {FINISHED, FAILED}, ended
        assert FINISHED in ends or not ends, ended


def try_lines(number: int, share: int, place: Path, within: Within) -> Counter[int]:
    """Tries generated command lines; how many had each exit code."""
    (place / "names.txt").write_text("\n".join(NAMES))
    before, codes = files(place), Counter[int]()

    @seed(share)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(command_lines)
    def one(words: list[str]) -> None:
        try:
            ended = within(*BASE, *words)
            is_trained_or_refused(ended, place, before)
            codes[ended.code] += 1
        finally:
            for left in place.glob("*[!t]"):  # all but names.txt
                shutil.rmtree(left)

    one()
    return codes


@pytest.mark.parametrize("number", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_command_line(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THERE", "names.txt")
    codes = try_lines(number, number, tmp_path, Within(monkeypatch, capfd))
    assert codes[0] > number / 20
    assert codes[2] > number / 2

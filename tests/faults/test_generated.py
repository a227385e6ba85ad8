"""Generated command lines, data, checkpoints, records and locks: a result or a clear line each."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from microgpt.ablation.evidence.lock import LOCK, text_of
from microgpt.run.checkpoint import read_checkpoint
from microgpt.run.folder import all_runs
from microgpt.sample import rebuild
from tests.command import Ended, Within, files
from tests.faults.conftest import Noted
from tests.running import REPOSITORY, train_here
from tests.test_checkpoint_damage import check_flip, flips
from tests.test_command_lines import is_trained_or_refused, try_lines
from tests.test_data_files import contents, train

pytestmark = pytest.mark.soak
WORDS = [
    "null",
    "true",
    "-",
    ".",
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    ",",
    "\n",
    " ",
    "\t",
    "#",
]
WORDS += [
    "!!x ",
    "&a ",
    "*a",
    "<<: ",
    "nan",
    "\0",
    "\x85",
    "\u2028",
    "\ud7ff",
    "---\n",
    "${x}",
    "%",
]
pieces = st.sampled_from([*(word.encode() for word in WORDS), b"", b"\xff", b"\xc3"])
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), pieces), min_size=1, max_size=3)
LOCKS = ["heads", "norm", "width"]  # the last two have keys that others have not, and a fit
GONE = object()  # a key or an element that is deleted
VALUES: list[Any] = [None, True, False, "", "x", "a b", -1, 0, 3, 1.5, 1e308, [], {}, [1], {"a": 1}]


def many(number: int, *strategies: Any) -> Callable[[Callable[..., None]], None]:
    """Calls the decorated function with so many generated examples."""

    def run(function: Callable[..., None]) -> None:
        chosen = settings(
            max_examples=number,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[*HealthCheck],
        )
        seed(number)(chosen(given(*strategies)(function)))()

    return run


@pytest.fixture
def within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Within:
    """A command whose working directory is the test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THERE", "names.txt")
    return Within(monkeypatch, capfd)


def told(codes: Counter[int]) -> str:
    """How many commands had each exit code."""
    return ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))


def check_lines(ended: Ended, *codes: int) -> None:
    """A command says what is wrong in lines of its own, without a traceback."""
    assert ended.code in codes, ended
    assert all(line.startswith("microgpt: ") for line in ended.err.splitlines()), ended


def test_command_lines(tmp_path: Path, within: Within, noted: Noted) -> None:
    codes = try_lines(1000, 7, tmp_path, within)
    noted("generated command lines", codes.total(), told(codes))


def test_data_files(tmp_path: Path, within: Within, noted: Noted) -> None:
    codes = Counter[int]()

    @many(1000, contents, st.sampled_from(["lines", "text"]))
    def one(content: bytes, source: str) -> None:
        before = {*files(tmp_path), "data.txt"}
        ended = train(within, content, f"data={source}")
        is_trained_or_refused(ended, tmp_path, sorted(before))
        codes[ended.code] += 1

    noted("generated data files", codes.total(), told(codes))


def test_checkpoints(tmp_path: Path, noted: Noted) -> None:
    steps = ["tracking=none", "trainer.num_steps=20", "trainer.checkpoint_every=5"]
    run = train_here(tmp_path, *steps)[1]
    trainer, kept = rebuild(run).trainer, run.checkpoints()[0]
    content, right, count = kept.read_bytes(), read_checkpoint(kept), 0

    @many(3000, flips(content))
    def one(changed: bytes) -> None:
        nonlocal count
        check_flip(kept, changed, right, trainer)
        count += 1

    noted("a flipped bit of a checkpoint", count, "none was taken for whole")


def edited(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Some bytes replaced by others, at places that are fractions of the length."""
    for place, length, new in changes:
        at = int(place * len(content))
        content = content[:at] + new + content[at + length :]
    return content


def test_records(
    tmp_path: Path, within: Within, monkeypatch: pytest.MonkeyPatch, noted: Noted
) -> None:
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(tmp_path))
    train_here(tmp_path, "tracking=none", "trainer.num_steps=20", "trainer.stop_after=12")
    (run,) = all_runs(tmp_path)
    shutil.copytree(run.path, tmp_path / "kept")
    names, codes = ["run.json", "config.yaml", "metrics.jsonl", "documents.txt"], Counter[int]()
    resume = ["train", "resume=here", "trainer.stop_after=13", "progress=false"]

    @many(600, st.sampled_from(names), edits)
    def one(name: str, changes: list[tuple[float, int, bytes]]) -> None:
        file = run.path / name
        file.write_bytes(edited(file.read_bytes(), changes))
        for words in (["runs"], ["sample", "here", "-n", "1"], resume):
            ended = within(*words)
            check_lines(ended, 0, 1, 2)
            codes[ended.code] += 1
        shutil.rmtree(run.path)
        shutil.copytree(tmp_path / "kept", run.path)

    noted("generated edits of a run's record, three commands each", codes.total(), told(codes))


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a JSON value: what holds it, and the key or index there."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places_of(value[key])


def test_locks(tmp_path: Path, within: Within, noted: Noted) -> None:
    """Re-signed, as by one who means to deceive."""
    codes = Counter[int]()
    for name in LOCKS:
        shutil.copytree(REPOSITORY / "experiments" / name, tmp_path / "experiments" / name)

    @many(200, st.sampled_from(LOCKS), st.integers(0, 2**32), st.sampled_from([GONE, *VALUES]))
    def one(name: str, place: int, value: Any) -> None:
        file = tmp_path / "experiments" / name / LOCK
        text = file.read_text()
        lock = json.loads(text)
        del lock["digest"]
        holder, key = random.Random(place).choice([*places_of(lock)])
        if value is GONE:
            del holder[key]
        else:
            holder[key] = value
        file.write_text(text_of(lock))
        ended = within("verify", name, "--sample", "1")
        file.write_text(text)
        check_lines(ended, 0, 1, 2)
        codes[ended.code] += 1

    noted("generated edits of a lock, re-signed", codes.total(), told(codes))

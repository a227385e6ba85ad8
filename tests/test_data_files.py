"""Files of documents, right and wrong: a trained step, or one clear line; what is unusual is said."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from microgpt.datasets.checks import largest
from tests.command import NAMES, OFFLINE, TINY, Ended, Within, command, files, refused
from tests.test_command_lines import is_trained_or_refused

BASE = ["train", *TINY, *OFFLINE, "trainer.num_steps=1", "trainer.checkpoint_every=0"]
BASE += ["engine=vector", "data.path=data.txt"]
FAMILY = "\U0001f469\u200d\U0001f467"  # an emoji of two, with a joiner
pieces = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [b"\n", b"\r\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b" \t", b"name\n" * 30]
    ),
    st.sampled_from([FAMILY, "\u2028", "\x85", "\x0c", "e\u0301", "\ud7ff", "\ufffd"]).map(
        str.encode
    ),
)
enough = st.sampled_from([b"", "".join(f"{name}\n" for name in NAMES * 3).encode()])  # to train on
contents = st.builds(
    lambda first, rest: first + b"".join(rest), enough, st.lists(pieces, max_size=8)
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Within:
    return Within(monkeypatch, capfd)


def train(within: Within, content: bytes, *words: str) -> Ended:
    """Trains a step on a file with this content."""
    Path("data.txt").write_bytes(content)
    return within(*BASE, *words)


@pytest.mark.parametrize("number", [25, pytest.param(150, marks=pytest.mark.soak)])
def test_any_content(number: int, place: Path, within: Within) -> None:
    codes = Counter[int]()

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(contents, st.sampled_from(["lines", "text"]))
    def one(content: bytes, source: str) -> None:
        ended = train(within, content, f"data={source}")
        is_trained_or_refused(ended, place, ["data.txt"])
        codes[ended.code] += 1
        for left in place.glob("*[!t]"):  # all but data.txt
            shutil.rmtree(left)

    one()
    assert codes[0] > number / 20
    assert codes[2] > number / 20


def lines(*texts: str) -> bytes:
    """Some names and these lines, so often that none is missing from training."""
    return "\n".join([*NAMES, *texts] * 3).encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FAMILY, "U+200D ZERO WIDTH JOINER (3)"),
        ("a\0b", "U+0000 (3)"),
        ("a\u2028b", "U+2028 LINE SEPARATOR (3)"),
        ("a\ufeffb", "U+FEFF ZERO WIDTH NO-BREAK SPACE (3)"),
        ("a\ufffdb", "U+FFFD REPLACEMENT CHARACTER (3)"),
        ("\0\1\2\3\4\5a", "U+0000 (3), U+0001 (3), U+0002 (3), U+0003 (3) and 2 more"),
    ],
    ids=ascii,
)
def test_unusual_characters_are_named(text: str, said: str, place: Path, within: Within) -> None:
    ended = train(within, lines(text))
    assert ended.code == 0
    assert ended.err.startswith("microgpt: data data: 33 documents, ")
    assert ended.err.endswith(f"with unusual ones: {said}\n")


def test_samples_hold_nothing_that_a_terminal_obeys(place: Path, within: Within) -> None:
    ended = train(
        within, lines("\x1b[2J" * 2), "sampling.temperature=9", "sampling.num_samples=200"
    )
    assert "\\x1b" in ended.out
    assert "\x1b" not in ended.out


@pytest.mark.parametrize(
    "content", [lines("zoë"), lines().replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + lines()]
)
def test_what_is_read_as_meant_is_not_mentioned(
    content: bytes, place: Path, within: Within
) -> None:
    """Letters of any language, line ends of Windows, a byte order mark at the beginning."""
    assert train(within, content).err == ""


def test_bytes_that_are_not_utf8_are_named(place: Path, within: Within) -> None:
    refused(
        train(within, b"\xef\xbb\xbfanna\nbert\xff\n"), ["data.path='data.txt'", "byte 12, 0xff"]
    )


def test_prose_in_lines(place: Path, within: Within) -> None:
    """Lines longer than block_size=10 are cut; of one line nothing is left to evaluate."""
    prose = "to be or not to be that is the question\n" * 30 + "whether it is nobler\n" * 30
    ended = train(within, prose.encode(), "data=lines", "data.split=shuffled")
    assert ended.code == 0
    assert ended.err == (
        "microgpt: data data: model.block_size=10 cuts off 66% of the characters, in 60 of 60 documents; "
        "data=text is for running text\n"
    )
    assert train(within, prose.encode(), "data=text").err == ""
    one = prose.replace("\n", " ").encode()
    refused(
        train(within, one, "data=lines"), ["data.val_fraction=0.1", "of 1 document;", "data=text"]
    )


def test_a_sweep_says_it_once(place: Path, within: Within) -> None:
    words = ["-m", "seed=1,2", "model.block_size=2,10", "hydra/launcher=basic"]
    ended = train(within, lines(), *words)
    assert ended.code == 0
    assert ended.err.startswith("microgpt: data data: model.block_size=2 cuts off ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ["data.val_fraction=0.1: leaves nothing to evaluate of 5 documents"]),
        ("data.val_fraction=0 data.test_fraction=0.1", ["data.test_fraction=0.1: leaves nothing"]),
        ("-m seed=1,2", ["data.val_fraction=0.1: leaves nothing to evaluate of 5 documents"]),
    ],
)
def test_a_part_that_would_be_empty_is_refused(
    words: str, parts: list[str], place: Path, within: Within
) -> None:
    content = "\n".join(["pat", "quin", "roy", "sue", "tom"]).encode()
    refused(train(within, content, *words.split()), parts)
    assert files(place) == ["data.txt"]
    text = train(within, content * 9, "data=text", "data.val_fraction=0.001")
    nothing = "leaves nothing to evaluate of 1 document; data.val_fraction=0 evaluates nothing\n"
    assert text.err == f"microgpt: data.val_fraction=0.001: {nothing}"
    assert train(within, content, "data.val_fraction=0").code == 0
    assert train(within, content, "trainer.eval_documents=0").code == 0


def test_what_has_no_end_is_not_read(place: Path, within: Within) -> None:
    os.mkfifo("data.txt")
    ended = command(BASE, place)
    refused(ended, ["data.path='data.txt'", "must be a regular file, but is a pipe"])
    for path in ("/dev/zero", "/dev/tty"):
        refused(within(*BASE, f"data.path={path}"), ["data.path=", "a regular file"])
    refused(within(*BASE, "data.path=."), ["data.path='.'", "is a directory"])


def test_a_file_larger_than_the_memory_is_not_read(place: Path, within: Within) -> None:
    with Path("data.txt").open("wb") as file:
        file.truncate(2 * largest())  # without taking room on the disk
    refused(within(*BASE), ["data.path='data.txt'", "MB", "of this machine's memory"])

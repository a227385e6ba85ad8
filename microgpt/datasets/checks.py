"""What is checked and said of a text before a run trains on it."""

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from microgpt.core.check import BadValue
from microgpt.core.data import Documents
from microgpt.core.source import Source

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MEMORY = 16  # bytes that a run takes for each byte of text; measured, data=text takes the most
ACCEPTED = 0.01  # share of the characters that block_size may cut off without a word
SHOWN = 4  # unusual characters that are named
# Categories of Unicode: control, format, surrogate, private, unassigned; line and paragraph separators.
UNUSUAL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
USUAL = "\n\t"
REPLACEMENT = "\ufffd"  # stands for what another program could not decode


def check_file(path: str) -> None:
    """Raises BadValue for what cannot be read to its end, or is not UTF-8; a missing file passes.

    A pipe could make a run wait for ever, and a device, or a file larger than the memory, take all of it.
    """
    file = Path(os.path.expanduser(path))  # Path.expanduser raises for an unknown user
    try:
        found = file.stat()
        kind = KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None and found.st_size <= largest():
            file.read_bytes().decode()
            return
    except UnicodeDecodeError as error:
        problem = (
            f"must be UTF-8 text, but byte {error.start}, {error.object[error.start]:#04x}, is not"
        )
        raise BadValue("path", str(file), problem) from error
    except (OSError, ValueError):  # the source itself says why; a null byte is a ValueError
        return
    if kind:
        raise BadValue("path", str(file), f"must be a regular file, but is {kind}")
    problem = f"must have at most {largest() >> 20:,} MB, {1 / MEMORY:.0%} of this machine's memory"
    raise BadValue("path", str(file), f"{problem}, but has {found.st_size >> 20:,} MB")


def largest() -> int:
    """The bytes of the largest file that a run of this machine can read."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY


def remarks(source: Source, documents: Sequence[str], block_size: int) -> Iterator[str]:
    """What a user may not expect of the documents: characters cut off, unusual characters."""
    characters = sum(map(len, documents))
    if issubclass(source.corpus, Documents):
        cut = sum(len(text) > block_size for text in documents)
        share = sum(max(0, len(text) - block_size) for text in documents) / characters
        if share > ACCEPTED:
            yield (
                f"data {source.name}: model.block_size={block_size} cuts off {share:.0%} of the "
                f"characters, in {cut:,} of {len(documents):,} documents; data=text is for running text"
            )
    vocabulary = set().union(*documents)
    if unusual := sorted(filter(is_unusual, vocabulary)):
        named = ", ".join(
            f"{name_of(each)} ({sum(text.count(each) for text in documents):,})"
            for each in unusual[:SHOWN]
        )
        more = f" and {len(unusual) - SHOWN} more" if len(unusual) > SHOWN else ""
        yield (
            f"data {source.name}: {len(documents):,} documents, {characters:,} characters, a vocabulary of "
            f"{len(vocabulary)} with unusual ones: {named}{more}"
        )


def is_unusual(character: str) -> bool:
    """Whether a text has this character rarely on purpose: a NUL, a joiner, U+2028."""
    unusual = unicodedata.category(character) in UNUSUAL or character == REPLACEMENT
    return unusual and character not in USUAL


def name_of(character: str) -> str:
    """The code point and, if it has one, the name: `U+200D ZERO WIDTH JOINER`."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()

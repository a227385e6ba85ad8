"""Sources of documents: the options of the group `data`."""

import os
from collections.abc import Sequence
from pathlib import Path

from microgpt.core.check import BadValue
from microgpt.core.data import Blocks, Split, read_documents, split_text
from microgpt.core.source import Source


class Lines(Source):
    """A text file in UTF-8 with one document per line, stripped of white space; empty lines are skipped."""

    def __init__(
        self,
        *,
        path: str | None,
        val_fraction: float,
        test_fraction: float,
        split: str,
        split_seed: int,
    ) -> None:
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split=split,
            split_seed=split_seed,
        )
        self.path = _path(path)

    @property
    def name(self) -> str:
        """The file's name without its suffix; without a path, the name of the source."""
        return Path(self.path).stem if self.path else super().name

    def documents(self) -> list[str]:
        """All documents, in the order of the file. Raises BadValue."""
        file = self.path or str(self.default())
        documents = read_documents(read_text(file))
        if not documents:
            raise BadValue("path", file, "must be a file with at least one document")
        return documents

    def default(self) -> Path:
        """The file to read without a path. Raises BadValue."""
        raise BadValue("path", None, "must name a file, one document a line (data.path=FILE)")


class Text(Source):
    """Running text in UTF-8: one document, from which batches take windows.

    Its beginning is the training part; validation and test follow.
    """

    corpus = Blocks

    def __init__(self, *, path: str | None, val_fraction: float, test_fraction: float) -> None:
        super().__init__(
            val_fraction=val_fraction, test_fraction=test_fraction, split="hash", split_seed=0
        )
        self.path = _path(path)

    @property
    def name(self) -> str:
        """The file's name without its suffix; without a path, the name of the source."""
        return Path(self.path).stem if self.path else super().name

    def documents(self) -> list[str]:
        """The whole text, as one document. Raises BadValue."""
        file = self.path or str(self.default())
        text = read_text(file)
        if len(text) < 2:
            raise BadValue("path", file, "must be a file with at least two characters")
        return [text]

    def default(self) -> Path:
        """The file to read without a path. Raises BadValue."""
        raise BadValue("path", None, "must name a file (data.path=FILE)")

    def split(self, documents: Sequence[str]) -> Split:
        return split_text(
            documents, val_fraction=self.val_fraction, test_fraction=self.test_fraction
        )


def read_text(path: str) -> str:
    """The text of a file in UTF-8, without a byte order mark. Raises BadValue."""
    file = Path(os.path.expanduser(path))  # Path.expanduser raises for an unknown user
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadValue("path", str(file), _complaint(error)) from error


def _path(path: str | None) -> str | None:
    if path is not None and (not isinstance(path, str) or not path):
        raise BadValue("path", path, "must name a file, or be null")
    return path


class Names(Lines):
    """First names of the United States, 2017, from names.txt in this package."""

    def default(self) -> Path:
        return Path(__file__).with_name("names.txt")


class Makemore(Lines):
    """The names.txt of the original program, downloaded once and checked against its sha256."""

    url = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"
    sha256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"

    def default(self) -> Path:
        return downloaded(self.url, self.sha256, "makemore-names.txt")


def downloaded(url: str, sha256: str, name: str) -> Path:
    """A file from the network, kept in the user's cache under `name`.

    It is checked against its sha256. Raises BadValue if there is no network.
    """
    import logging

    import pooch  # imported here, since most sources do not need it

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", name, pooch.os_cache("microgpt")))
    except (OSError, ValueError) as error:
        advice = f"cannot download {url}; name a copy of it with data.path=FILE"
        raise BadValue("path", None, advice) from error


def _complaint(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"must be UTF-8 text, but byte {error.start} is not"
    return f"must be a readable file ({error.strerror or error})"

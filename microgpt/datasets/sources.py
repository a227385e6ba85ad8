"""The sources of documents, one class an option of `data`."""

import os
from pathlib import Path

from microgpt.core.check import BadValue, fraction, integer
from microgpt.core.data import read_documents


class Lines:
    """A text file in UTF-8, one document a line."""

    def __init__(self, *, path: str | None, val_fraction: float, split_seed: int) -> None:
        if path is not None and (not isinstance(path, str) or not path):
            raise BadValue("path", path, "must name a file, or be null")
        self.path = path
        self.val_fraction = fraction("val_fraction", val_fraction)
        self.split_seed = integer("split_seed", split_seed, 0)

    @property
    def name(self) -> str:
        """What to call the data."""
        return Path(self.path).stem if self.path else type(self).__name__.lower()

    def documents(self) -> list[str]:
        """All documents, in the order of the file. Raises BadValue."""
        # Not Path.expanduser, which raises where there is no such user.
        file = Path(os.path.expanduser(self.path)) if self.path else self.default()
        try:
            documents = read_documents(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadValue("path", str(file), _complaint(error)) from error
        if not documents:
            raise BadValue("path", str(file), "must be a file with at least one document")
        return documents

    def default(self) -> Path:
        """The file to read where no path is given."""
        raise BadValue("path", None, "must name a file, one document a line (data.path=FILE)")


class Names(Lines):
    """The first names of the United States in 2017, which lie beside this file."""

    def default(self) -> Path:
        return Path(__file__).with_name("names.txt")


class Makemore(Lines):
    """The names.txt of the original program, downloaded once and checked against its sha256."""

    url = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"
    sha256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"

    def default(self) -> Path:
        import logging

        import pooch  # imported here: the other sources must not wait for it

        pooch.get_logger().setLevel(logging.WARNING)
        try:
            cached = pooch.retrieve(
                self.url, f"sha256:{self.sha256}", "makemore-names.txt", pooch.os_cache("microgpt")
            )
        except (OSError, ValueError) as error:
            advice = f"cannot download {self.url}; name a copy of it with data.path=FILE"
            raise BadValue("path", None, advice) from error
        return Path(cached)


def _complaint(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"must be UTF-8 text, but byte {error.start} is not"
    return f"must be a readable file ({error.strerror or error})"

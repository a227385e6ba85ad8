"""Exit codes, one-line errors and the argument parser of all commands."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn

from microgpt.secret import masked

if TYPE_CHECKING:
    from microgpt.run.record import Record

OK, RUN_FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
SIGNALLED = 128  # less than the exit code of what a signal ended
LONGEST = 360  # characters of a complaint


class ConfigError(ValueError):
    """Invalid input; the message names it and what is allowed, in one line."""


class Ended(NamedTuple):
    """How a command ended: its exit code, and the run or the sweep that it trained, if any."""

    code: int
    folder: "Record | None" = None

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it, whose number the exit code has."""
        return self.code > SIGNALLED


def complain(line: str) -> None:
    """Prints `microgpt: line` on standard error."""
    print(f"microgpt: {complaint(line)}", file=sys.stderr)


def complaint(text: str) -> str:
    """One line of printable characters, without passwords, cut if it is long."""
    line = printable(masked(" ".join(text.split())))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    return line


def printable(text: str) -> str:
    """A text in which a character that a terminal does not show is as in Python: `\\x00`, `\\u200d`."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message; for an OSError, the file and the reason."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong input in one line and exits with WRONG_INPUT."""

    latest: ClassVar["Parser"]  # a command makes its own, which tab completion needs

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Parser.latest = self

    @property
    def options(self) -> Mapping[str, argparse.Action]:
        """Its options, by their names."""
        return self._option_string_actions

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see {self.prog} --help)")
        sys.exit(WRONG_INPUT)


def counted(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def follow(words: Sequence[str]) -> bool:
    """Whether these are at least three numbers that follow each other."""
    if len(words) < 3 or not all(word.isdecimal() for word in words):
        return False
    first = int(words[0])
    return list(words) == [str(n) for n in range(first, first + len(words))]


def span(numbers: Sequence[object]) -> str:
    """`0-4` of numbers that follow each other, or `100, 101`."""
    words = [str(number) for number in numbers]
    return f"{words[0]}-{words[-1]}" if follow(words) else ", ".join(words)


def carried() -> list[str]:
    """The words of this command that the commands it names need, too: where own configurations are."""
    return config_dir(sys.argv)


def config_dir(words: Sequence[str]) -> list[str]:
    """`--config-dir` and its folder, of the words of a command that has it."""
    for i, word in enumerate(words):
        option, equals, folder = word.partition("=")
        if option in ("--config-dir", "-cd"):
            folder = folder if equals else next(iter(words[i + 1 : i + 2]), "")
            return ["--config-dir", folder]
    return []


def add_trust(parser: argparse.ArgumentParser, config_dir: bool = True) -> None:
    """Adds the options that say which code a run's record may name; see `trust.py`."""
    parser.add_argument(
        "--trust",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package whose classes the record may name, beside microgpt's; may be repeated",
    )
    if config_dir:
        parser.add_argument(
            "--config-dir",
            metavar="DIR",
            help="trust the classes that the configurations in DIR name",
        )

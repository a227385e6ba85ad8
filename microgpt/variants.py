"""The options of every group, as their files describe them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from microgpt.app import config_path

SOURCE = "# Source: "
APART = ("hydra", "experiment", "debug")  # groups whose files are no parts of a run


class Option(NamedTuple):
    """One file of a group."""

    group: str  # as on the command line, such as model/norm
    name: str
    line: str  # what it is
    source: str  # paper or program; may be empty


def variants() -> list[Option]:
    """All options, sorted by group."""
    folder = config_path()
    files = (file.relative_to(folder) for file in sorted(folder.glob("*/**/*.yaml")))
    found = [_option(folder, file) for file in files if file.parts[0] not in APART]
    return sorted(found, key=lambda option: option.group)


def _option(folder: Path, file: Path) -> Option:
    first, *rest = (folder / file).read_text(encoding="utf-8").splitlines()
    source = next((line.removeprefix(SOURCE) for line in rest if line.startswith(SOURCE)), "")
    return Option(file.parent.as_posix(), file.stem, first.removeprefix("# "), source)


def table(options: Sequence[Option]) -> Iterator[str]:
    """Lines for the terminal: group=option, what it is, its source."""
    width = max(len(f"{option.group}={option.name}") for option in options)
    for option in options:
        source = f" ({option.source})" if option.source else ""
        yield f"{f'{option.group}={option.name}':<{width}}  {option.line}{source}"


def page(options: Sequence[Option]) -> Iterator[str]:
    """The same as a page in Markdown."""
    yield "# All options"
    yield ""
    yield "`microgpt train GROUP=OPTION` chooses an option; its keys, with units and usual ranges, are in"
    yield "its file. This page is written by `microgpt variants --markdown > conf/README.md`."
    for group, members in groupby(options, lambda option: option.group):
        yield from ("", f"## `{group}`", "", "| option | | source |", "|---|---|---|")
        for option in members:
            place = f"{group}/{option.name}.yaml"
            yield f"| [`{option.name}`]({place}) | {option.line} | {option.source} |"

"""What every key of the configuration means, from the comments in its files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

KEY = re.compile(r"^( *)(\w+):(.*?)(?:\s# (.*))?$")
COLUMN = 28  # where a comment begins, if there is room


def explained(text: str, choices: Mapping[str, str | None], folders: Sequence[Path]) -> str:
    """A configuration in YAML with the meaning of each key behind it.

    choices  the option of each group, such as `{"model/norm": "rmsnorm"}`
    folders  where the files of configurations are
    """
    said = dict(_meanings(choices, folders))
    lines = []
    for line, key in _keys(text):
        meaning = said.get(key or "")
        lines.append(f"{line:<{COLUMN}}  # {meaning}" if meaning else line)
    return "\n".join(lines)


def _meanings(
    choices: Mapping[str, str | None], folders: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    """Full name and meaning of keys; of several for one key the last counts, the chosen option's."""
    for folder in folders:
        for file in sorted(folder.glob("*.yaml")):
            yield from _in_file(file, "")
        for group, option in choices.items():
            others = sorted((folder / group).glob("*.yaml"), key=lambda file: file.stem == option)
            for file in others:  # an option that builds on another has no comments of its own
                yield from _in_file(file, group.replace("/", "."))
            if option and (chosen := folder / group / f"{option}.yaml").is_file():
                first = chosen.read_text(encoding="utf-8").partition("\n")[0]
                if first.startswith("# ") and not first.startswith("# @"):
                    yield group.replace("/", "."), f"{group}={option}: {first.removeprefix('# ')}"


def _in_file(file: Path, parent: str) -> Iterator[tuple[str, str]]:
    """The keys of a file that have a comment behind them."""
    for line, key in _keys(file.read_text(encoding="utf-8")):
        found = KEY.match(line)
        if key and found and found[4]:
            yield f"{parent}.{key}".lstrip("."), found[4].strip()


def _keys(text: str) -> Iterator[tuple[str, str | None]]:
    """Each line, and the full name of the key on it, if there is one."""
    names: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = KEY.match(line)
        if not found:
            yield line, None
            continue
        indent = len(found[1])
        names = [each for each in names if each[0] < indent] + [(indent, found[2])]
        yield line, ".".join(name for _, name in names)

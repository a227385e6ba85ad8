"""What programs may rely on: docs/programs.md has every command, and the keys of its JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from microgpt.cli import COMMANDS
from microgpt.tracking.sync import Sent
from tests.conftest import Here
from tests.running import NOWHERE, REPOSITORY, SHORT, train_here, untracked
from tests.test_listing import documented

PAGE = (REPOSITORY / "docs/programs.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Commands")[2].partition("\n## ")[0]


def cell(command: str) -> str:
    """What the table says of a command's JSON."""
    rows = [line.split("|") for line in TABLE.splitlines() if line.startswith("| `")]
    (found,) = [row[2] for row in rows if f"`{command}`" in row[1]]
    return found.strip()


def keys(command: str) -> set[str]:
    """The keys of a command's JSON that the table names."""
    return set(re.findall(r"`([a-z_]+)`", cell(command))) - {command}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_says_which_commands_print_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        COMMANDS[command](["--help"])
    assert ended.value.code == 0
    assert ("--json" in capsys.readouterr().out) == (cell(command) != "none")


def test_what_they_print(outputs: Path, here: Here) -> None:
    def said(*words: str, code: int = 0) -> Any:
        return json.loads(here(outputs, *words, "--json", code=code)[0])

    _, run = train_here(outputs, *SHORT)
    mlflow = run.mlflow_run_id
    untracked(outputs, name="alone")
    (sent,) = said("sync", "here")
    assert set(sent) == documented("sync") == set(Sent._fields)
    assert sent == {
        "id": "here",
        "status": "finished",
        "mlflow": mlflow,
        "problem": None,
    }
    (failed,) = said("sync", "alone", "--uri", NOWHERE, code=1)
    assert failed == {
        "id": "alone",
        "status": None,
        "mlflow": None,
        "problem": f"{NOWHERE}: nothing answers there",
    }
    assert set(said("variants")[0]) == keys("variants")
    drawn = said("sample", "here", "-n", "3", "--seed", "1")
    assert len(drawn) == 3
    assert all(isinstance(text, str) for text in drawn)
    page = said("inspect", "here")
    assert set(page) == keys("inspect")
    assert Path(page["page"]).is_file()
    gone = said("rm", "here", "--yes")
    assert set(gone) == keys("rm") - {"microgpt"}
    assert gone == {"runs": ["here"], "sweeps": [], "mlflow": [mlflow], "kept": []}

"""The bin of parts: what is listed is what is there, and says where it comes from."""

import inspect
import re
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from microgpt.app import config_path
from microgpt.variants import Option, page, table, variants

ROOT = Path(__file__).parent.parent
OPTIONS = variants()
OWN = {"none", "names", "lines", "text"}  # controls, and the data of whoever asks
PLAIN = {"schedule=constant", "loss=cross_entropy", "model/head=untied"}


def file_of(option: Option) -> Path:
    return config_path() / option.group / f"{option.name}.yaml"


def test_the_page_is_what_the_command_writes() -> None:
    """`microgpt variants --markdown > conf/README.md`."""
    written = (config_path() / "README.md").read_text(encoding="utf-8")
    assert written == "".join(f"{line}\n" for line in page(OPTIONS))


def test_the_list_names_every_option_as_it_is_chosen() -> None:
    lines = list(table(OPTIONS))
    assert len(lines) == len(OPTIONS) > 70
    for option, line in zip(OPTIONS, lines, strict=True):
        assert line.startswith(f"{option.group}={option.name} ")
        assert option.line in line


def test_the_readme_has_every_option_of_every_group() -> None:
    rows = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [row.split("|")[1:3] for row in rows if row.startswith("| `")]
    for option in OPTIONS:
        (listed,) = [right for left, right in cells if f"`{option.group}`" in left.split()]
        assert f"`{option.name}`" in listed, option


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: f"{o.group}={o.name}")
def test_a_part_has_a_source_and_its_class_names_it(option: Option) -> None:
    if option.group in ("engine", "streams", "tracking") or option.name in OWN:
        return
    if f"{option.group}={option.name}" not in PLAIN:
        assert option.source
    content = yaml.safe_load(file_of(option).read_text(encoding="utf-8"))
    if "_target_" in content and option.group != "model":
        text = inspect.getdoc(get_object(content["_target_"])) or ""
        papers = set(re.findall(r"\d{4}\.\d{5}", option.source))
        assert papers <= set(re.findall(r"\d{4}\.\d{5}", text))

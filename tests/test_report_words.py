"""What a report says of its claim, and where its links and commands lead."""

import re
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.report import words
from microgpt.ablation.report.report import report
from tests.sweeps import HEADS, Made, address, heads, log_sweep

WORSE = {"kind": "worse", "arms": [{HEADS: 1}, {HEADS: 16}]}
EQUAL = {"kind": "equal", "arms": [{HEADS: 8}]}
PAIR = "n_head=1 minus n_head=4 is +0.1; n_head=16 minus n_head=4 is +0.2"


@pytest.mark.parametrize(
    ("claim", "because", "parts"),
    [
        ({"kind": "optimum"}, PAIR, 1),  # one inner arm and both ends
        (WORSE, PAIR, 2),
        (
            {"kind": "all", "claims": [WORSE, {"kind": "optimum"}]},
            f"'a' is refuted: {PAIR}; 'b' is supported: {PAIR}",
            2,
        ),
    ],
)
def test_what_belongs_to_one_part_of_a_claim_is_one_line(
    claim: dict[str, Any], because: str, parts: int
) -> None:
    found = words.numbers({"because": because, "ablation": {"claim": claim}})
    assert len(found) == parts
    assert " ".join(found).replace(".", "") == because.replace(
        "; ", " " if claim is WORSE else "; "
    ).replace("; 'b'", " 'b'").replace(".", "")


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (None, "a difference of 0.01 nats per token"),
        (WORSE, "a difference of 0.01 nats per token; *better* and *worse* claim that or more"),
        (EQUAL, "a difference of 0.01 nats per token; *as good* claims less, in either direction"),
    ],
)
def test_the_words_of_a_claim_say_by_how_much(claim: dict[str, Any] | None, said: str) -> None:
    assert words.matters({"ablation": {"matters": 0.01, "claim": claim}}) == said


def test_a_truth_value_is_written_as_in_the_name_of_its_arm() -> None:
    found = {"because": "'a=True' is refuted: a=true", "ablation": {"claim": EQUAL}}
    assert words.numbers(found) == ["'a=true' is refuted: a=true."]
    found["ablation"] = {"claim": {"kind": "equal", "arms": [{"model.bias": True}]}}
    assert words.claimed(found) == "bias=true as good as the baseline"


def test_the_ends_and_the_inner_arms_are_named(told: tuple[Path, str, Made]) -> None:
    lock = read_lock(told[0] / LOCK)
    assert "- ends: n_head=1 and n_head=16;" in (told[0] / "README.md").read_text()
    assert words.ends({**lock, "ablation": {"claim": WORSE}}) == ""


def test_links_lead_to_pages_and_commands_to_configurations(bench: Path, tmp_path: Path) -> None:
    section = heads().ablation or {}
    asked = {**section, "robustness": ["there", "nowhere"]}
    made = heads(ablation=asked, config_dir="my own", seeds=[0, 1])
    log_sweep(bench, made)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/README.md").write_text("# there\n")
    folder = report(made.id, address(bench), bench, tmp_path)
    page = (folder / "README.md").read_text()
    links = re.findall(r"[^!]\[[^]]*\]\((.*?)\)", page)
    assert links == ["../there/README.md"]
    assert "experiments/method explains the words" in page
    assert "- nowhere: no verdict yet" in page
    for command in ("train -m experiment=heads", "report heads", "verify heads"):
        assert f"    microgpt {command} --config-dir 'my own'\n" in page
    index = (tmp_path / "README.md").read_text()
    assert set(re.findall(r"\]\(([^)#]+)\)", index)) == {"heads/README.md", "heads/arms.png"}

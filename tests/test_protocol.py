"""What is claimed is checked before the first job, frozen, and stands beside every verdict."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.core.check import BadValue
from microgpt.protocol.arms import Planned
from microgpt.protocol.protocol import check, check_part, content, digest_of, frozen, words_of
from microgpt.protocol.section import question
from tests.command import Ended, Within
from tests.conftest import Here
from tests.running import TINY, parents, store
from tests.sweeps import HEADS, asked

ARMS = [Planned(f"n_head={n}", {HEADS: str(n)}, range(5)) for n in (1, 2, 4, 8, 16)]
DATA = {"path": "x", "val_fraction": 0.1, "test_fraction": 0.0, "split": "hash", "split_seed": 0}


def said(
    arms: list[Planned] = ARMS, signature: str = "s", digest: str = "d", **changes: Any
) -> str:
    return digest_of(content(question(asked(**changes)), arms, signature, DATA, digest))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"baseline": {HEADS: 3}}, "ablation.baseline={'model.n_head': 3}: must fit one arm of"),
        ({"baseline": {}}, "must fit one arm of the sweep, not 5"),
        ({"claim": {"kind": "best"}}, "ablation.claim.kind='best': must be one of"),
        ({"claim": {"kind": "better", "arms": [{HEADS: 3}]}}, "ablation.claim.arms={'model.n_h"),
        ({"claim": {"kind": "better", "arms": [{HEADS: 4}]}}, "must not be compared with itself"),
        ({"claim": {"kind": "better", "arms": [{HEADS: 8}], "than": {HEADS: 5}}}, "claim.than={"),
        ({"claim": {"kind": "all", "claims": [{"kind": "worse", "arms": [{"x": 1}]}]}}, "fit one"),
        ({"claim": {"kind": "power_law", "exponent": [0, 1]}}, "ablation.fit=None: must be n_par"),
        ({"axis": "model.n_embd"}, "ablation.axis='model.n_embd': must be a key that all arms"),
        ({"axis": None}, "ablation.axis=None: an optimum needs three arms"),
        ({"source": None}, "ablation.source=None: must be there"),
        ({"source": " "}, "ablation.source=' ': must be a text"),
        ({"part": "train"}, "ablation.part='train': must be validation or test"),
        ({"robustness": "heads"}, "ablation.robustness='heads': must be a list of experiments"),
    ],
)
def test_what_no_sweep_could_answer(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(BadValue) as error:
        check(question(asked(**changes)), ARMS)
    assert line in str(error.value)


def test_one_seed_answers_nothing() -> None:
    with pytest.raises(BadValue, match=r"seed=\[3\]: must be two or more, of which n_head=1 has"):
        check(question(asked()), [Planned("n_head=1", {HEADS: "1"}, [3]), *ARMS[1:]])


@pytest.mark.parametrize(
    ("section", "data", "line"),
    [
        ({}, {}, None),
        ({"part": "test"}, {"test_fraction": 0.1}, None),
        ({"part": "test"}, {}, "data.test_fraction=0.0: must be above 0: the test part judges"),
        ({}, {"val_fraction": 0.0}, "data.val_fraction=0.0: must be above 0: the validation part"),
    ],
)
def test_the_part_that_judges_must_be_evaluated(
    section: dict[str, Any], data: dict[str, Any], line: str | None
) -> None:
    config = {"data": DATA | data, "trainer": {"eval_documents": 5}}
    found = question(asked(**section))
    if line is None:
        check_part(found, config)
        return
    with pytest.raises(BadValue) as error:
        check_part(found, config)
    assert line in str(error.value)


def test_all_that_may_change_a_verdict_changes_the_digest() -> None:
    changes: Mapping[str, Any] = {
        "question": "Else?",
        "source": "Someone 2021",
        "expectation": "None",
        "claim": {"kind": "better", "arms": [{HEADS: 8}]},
        "matters": 0.02,
        "baseline": {HEADS: 8},
        "part": "test",
        "axis": None,
        "tuning": "other",
        "fit": "n_params",
        "robustness": ["heads_64"],
    }
    digests = {said(**{key: value}) for key, value in changes.items()}
    digests |= {said(ARMS[1:]), said(signature="other"), said(digest="other")}
    fewer = [Planned(arm.name, arm.differs, range(4)) for arm in ARMS]
    assert len(digests | {said(fewer), said()}) == len(changes) + 5
    assert said(limits="At this scale.") == said()
    assert said(question="How \n many  heads?") == said()


def test_arms_in_words() -> None:
    assert words_of(ARMS) == {HEADS: "1,2,4,8,16"}
    pair = [Planned("a", {HEADS: "1", "lr": "2"}, []), Planned("b", {HEADS: "2", "lr": "1"}, [])]
    assert words_of(pair) == [{HEADS: "1", "lr": "2"}, {HEADS: "2", "lr": "1"}]


def test_a_protocol_keeps_the_time_at_which_it_was_frozen_first() -> None:
    one = frozen([], {"claim": 1}, "c")
    assert frozen(one, {"claim": 1}, "d") == one
    two = frozen(one, {"claim": 2}, None)
    assert two[0] == one[0]
    assert two[1]["time"] >= one[0]["time"]
    assert frozen(two, {"claim": 1}, None) == [two[1], one[0]]


ARGUMENTS = ["train", "-m", "hydra/launcher=basic", *TINY, "trainer.num_steps=3", "seed=0,1"]
QUESTION = "question: 'Which?', source: 'Nobody 2020', expectation: 'None', matters: 1.0"


def section(claim: str, baseline: str = "{model.n_head: 1}", more: str = "") -> str:
    return f"hydra.sweeper.ablation={{{QUESTION}, baseline: {baseline}, claim: {claim}{more}}}"


BETTER = section("{kind: better, arms: [{model.n_head: 2}]}")
EQUAL = section("{kind: equal, arms: [{model.n_head: 2}]}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([section("{kind: best}")], "ablation.claim.kind='best': must be one of "),
        (
            [section("{kind: optimum}", "{model.n_head: 4}")],
            "ablation.baseline={'model.n_head': 4}",
        ),
        ([section("null", more=", part: test")], "data.test_fraction=0.0: must be above 0"),
        (["hydra.sweeper.ablation=3"], "ablation=3: must hold keys"),
    ],
)
def test_a_wrong_section_trains_nothing(
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
    ended: Ended = Within(monkeypatch, capfd)(*ARGUMENTS, "model.n_head=1,2", *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert ended.err.startswith(f"microgpt: {line}")
    assert [file.name for file in outputs.iterdir()] == ["mlflow.db"]


def test_a_claim_edited_after_the_runs_is_caught(
    outputs: Path, here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [*ARGUMENTS, "model.n_head=1,2", "experiment=trial"]
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/trial.yaml").write_text("# @package _global_\nexperiment: trial\n")
    words += ["--config-dir", str(tmp_path / "own")]
    monkeypatch.chdir(tmp_path)

    def reported() -> tuple[dict[str, Any], str]:
        out, _ = here(outputs, "report", "trial")
        return read_lock(outputs / "reports/trial" / LOCK), out

    here(outputs, *words, BETTER)
    first, told = reported()
    assert first["protocol"]["known_before"] == 0
    assert (first["verdict"], first["earlier"]) == ("refuted", [])
    assert f"protocol {first['protocol']['digest'][:12]}" in told
    assert "Confirmatory: the claim was written before any of its 4 runs had ended" in told
    here(outputs, *words, BETTER)
    assert reported()[0] == first  # the same protocol, at its first time

    _, complaint = here(outputs, *words, EQUAL)
    assert "in claim; 4 runs had finished before it: its verdict is exploratory" in complaint
    second, told = reported()
    assert second["verdict"] == "supported"
    known = second["protocol"]
    assert (known["known_before"], known["known_of_baseline"]) == (2, 2)
    words_of = "2 of 4 runs, beside 2 of the baseline, were known before this claim was written"
    assert f"Exploratory: {words_of}" in told
    (before,) = second["earlier"]
    assert before["digest"] == first["protocol"]["digest"]
    assert (before["claim"], before["verdict"]) == ("n_head=2 better than the baseline", "refuted")

    (parent,) = parents(outputs)
    tags = parent.data.tags
    assert tags["protocol.digest"] == second["protocol"]["digest"]
    assert tags["protocol.time"] == second["protocol"]["time"]
    assert (tags["verdict"], tags["claim"]) == ("supported", "n_head=2 as good as the baseline")
    assert tags[f"verdict.{before['digest'][:12]}"].startswith("refuted: n_head=2 minus n_head=1")
    assert set(parent.data.metrics) == {"difference/n_head 2"}
    note = tags["mlflow.note.content"]
    assert "`model.n_head` 1, 2" in note
    assert "[4 runs, by arm]" in note
    assert "Verdict: supported" in note
    file = store(outputs).download_artifacts(parent.info.run_id, "protocol.json", str(tmp_path))
    kept = {key: second["protocol"][key] for key in ("digest", "time", "commit", "content")}
    assert json.loads(Path(file).read_text()) == kept

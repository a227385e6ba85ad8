"""A report beside those of other experiments: their verdicts, sizes and older runs, and the gallery."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import LOCK, read_lock, text_of
from microgpt.ablation.records.store import client_of
from microgpt.ablation.report import words
from microgpt.ablation.report.index import locks_with, write_index
from microgpt.ablation.report.repeats import marks, repeats, shared, shares
from microgpt.ablation.report.repeats import told as told_of_repeats
from microgpt.ablation.report.report import report
from microgpt.ablation.report.robustness import elsewhere
from microgpt.ablation.report.sizes import both, contradictions, counterpart
from microgpt.ablation.reproduce.verify_lock import altered
from tests.running import replace
from tests.sweeps import (
    Made,
    address,
    asked,
    heads,
    log_sweep,
)


def test_verdicts_elsewhere_are_those_of_locks_beside_or_of_the_store(
    bench: Path, told: tuple[Path, str, Made], tmp_path: Path
) -> None:
    client, store = client_of(address(bench), bench)
    folder = shutil.copytree(told[0], tmp_path / "beside")
    assert read_lock(folder / LOCK)["verdict"] == "supported"
    client.set_tag(log_sweep(bench, heads(experiment="stored", seeds=[0])), "verdict", "refuted")
    names = ["beside", "stored", "nowhere"]
    found = elsewhere(names, read_lock(folder / LOCK), tmp_path, client, store)
    assert [(row["verdict"], row["same"]) for row in found] == [
        ("supported", True),
        ("refuted", False),
        (None, None),
    ]
    lines = words.robustness({"robustness": found})
    assert [line.partition("): ")[2] for line in lines] == [
        "the same verdict, supported",
        "another verdict, refuted",
        "no verdict yet",
    ]


def test_a_report_writes_its_verdict_into_those_that_ask_the_same(
    bench: Path, tmp_path: Path
) -> None:
    for name in ("small", "by_hand", "forged"):
        made = heads(experiment=name, ablation=asked(robustness=["large"]))
        log_sweep(bench, made)
        report(made.id, address(bench), bench, tmp_path)
    small, by_hand, forged = (
        tmp_path / name / "README.md" for name in ("small", "by_hand", "forged")
    )
    replace(by_hand, "- large: no verdict yet", "- At another size it may differ.")
    forged.write_text(forged.read_text().replace("2.2", "2.1"))
    left = [file for page in (by_hand, forged) for file in page.parent.iterdir()]
    files = [file.read_bytes() for file in left]
    assert "- large: no verdict yet\n" in small.read_text()
    log_sweep(bench, large := heads(experiment="large"))
    report(large.id, address(bench), bench, tmp_path)
    assert "- [large](../large/README.md): the same verdict, supported\n" in small.read_text()
    assert "large: the same verdict, supported<" in (small.parent / "report.html").read_text()
    lock = read_lock(small.parent / LOCK)
    told = {"experiment": "large", "verdict": "supported", "same": True, "contradict": []}
    assert lock["robustness"] == [told]
    assert altered(lock, small.parent / LOCK) is None
    assert [file.read_bytes() for file in left] == files
    found = altered(read_lock(forged.parent / LOCK), forged.parent / LOCK)
    assert found
    assert "README.md has other numbers" in found.verdict


def test_a_gallery_shows_each_verdict_in_words(
    told: tuple[Path, str, Made], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(told[0], tmp_path / "heads")
    older = shutil.copytree(told[0], tmp_path / "of_before")
    lock = read_lock(older / LOCK)
    (older / LOCK).write_text(
        text_of({k: v for k, v in lock.items() if k not in ("schema", "digest")})
    )
    write_index(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "Verdict: supported. Here supported means that the runs show what was claimed" in page
    assert "What was claimed: one of the inner arms better than both ends." in page
    assert "(heads/arms.png)" in page
    assert "of_before" not in page
    assert "{" not in page
    assert (
        "of_before/results.lock.json: is of schema 1, and this version reads schema 3"
        in capfd.readouterr().err
    )


def told_of(experiment: str, words: dict[str, str], **ablation: Any) -> dict[str, Any]:
    """A lock whose table has these words by arm, such as `optimizer.lr=0.1 model.n_head=2`."""
    table = [
        {
            "difference": {"mean": 0.1} if word != "baseline" else None,
            "differs": dict(each.split("=") for each in arm.split()),
            "word": word,
        }
        for arm, word in words.items()
    ]
    return {"experiment": experiment, "ablation": ablation, "table": table}


def test_arms_of_two_sizes_are_the_same_but_for_their_rates() -> None:
    rate = "optimizer.lr"
    small = {f"{rate}=0.02": "baseline", f"{rate}=0.02 m.a=1": "equivalent within what matters"}
    small |= {f"{rate}=0.02 m.a=2 optimizer.adam_lr=1": "better by what matters"}
    small |= {f"{rate}=0.1 m.a=3": "undecided", "m/b=x m.a=4": "undecided"}
    large = {f"{rate}=0.1": "baseline", f"{rate}=0.2": "undecided"}
    large |= {f"{rate}=0.1 m.a=2": "better, of undecided size", f"{rate}=1 m.a=5": "undecided"}
    large |= {f"m.a=1 {rate}=0.2": "worse by what matters", "m.a=4 m/b=x": "undecided"}
    one, other = told_of("x", small), told_of("x_64", large, robustness=["x"])
    assert [(found.arm, found.contradict) for found in both(one, other)] == [
        ("a=1", True),
        ("a=2", False),
        ("a=4 b=x", False),
    ]
    assert counterpart(other, [one, other]) is one
    assert counterpart(one, [one, other]) is None
    assert counterpart(other, [other]) is None
    plain = told_of("plain", {"a=1": "better", "a=2": "worse", "a=4": "undecided"})
    against = told_of("against", {"a=1": "worse", "a=2": "worse by what matters", "a=4": "worse"})
    assert [arm.contradict for arm in both(plain, against)] == [True, False, False]
    assert contradictions(both(one, other)).startswith("On 1 of 3 arms the two verdicts, in bold,")
    assert contradictions(both(one, one)) == "No two verdicts on an arm contradict each other."


def test_runs_of_older_questions_are_counted_once_for_the_oldest() -> None:
    def lock_with(name: str, time: str | None, *signatures: str) -> dict[str, Any]:
        runs = [{"signature": one, "arm": one} for one in signatures]
        protocol = time and {"time": time}
        asked = {"experiment": name, "protocol": protocol, "verdict": "supported"}
        return {**asked, "runs": runs, "baseline": "x"}

    own = lock_with("own", "2026-03", "x", "a", "b", "c", "d")
    older = lock_with("older", "2026-01", "a", "x")
    old = lock_with("old", "2026-02", "a", "b", "c")
    others = [lock_with("unfrozen", None, "d"), old, own, older, lock_with("new", "2026-04", "d")]
    found = repeats(own, others)
    assert found == {"older": {"runs": 1, "arms": ["a"]}, "old": {"runs": 2, "arms": ["b", "c"]}}
    assert told_of_repeats(own, found) == (
        " Of the 5 runs, 3 (of a, b, c; the baseline's are not counted) repeat runs of questions that were "
        "asked before, whose results may have been known: older 1, old 2."
    )
    assert told_of_repeats({**own, "verdict": None}, found) == ""
    assert repeats(others[0], others) == {}
    assert told_of_repeats(older, repeats(older, others)) == ""


def test_whose_runs_the_baselines_are_is_told_by_their_parameters_too() -> None:
    """Another part that computes the same, such as as many heads of keys as of queries."""

    def lock_with(name: str, *runs: tuple[str, str]) -> dict[str, Any]:
        of = [{"signature": s, "parameters_sha256": m, "arm": "x"} for s, m in runs]
        return {"experiment": name, "baseline": "x", "runs": of}

    own = lock_with("own", ("a", "1"), ("b", "2"))
    others = [lock_with("same", ("a", "3")), own, lock_with("alike", ("c", "1"), ("d", "2"))]
    lock = own | {"shares": shares(own, [*others, lock_with("other", ("e", "4"))])}
    assert lock["shares"] == {"alike": 2, "same": 1}
    assert (
        shared(lock)
        == "; runs of it are also in alike (2), same (1), so these results are not independent"
    )
    assert shared({"shares": {}}) == ""


def test_only_locks_that_share_a_run_are_read_and_broken_ones_are_left_out(
    told: tuple[Path, str, Made], tmp_path: Path
) -> None:
    lock = read_lock(shutil.copytree(told[0], tmp_path / "heads") / LOCK)
    (shutil.copytree(told[0], tmp_path / "edited") / LOCK).write_text(
        (told[0] / LOCK).read_text().replace("heads", "tails")
    )
    (tmp_path / "folder" / LOCK).mkdir(parents=True)
    assert list(locks_with({min(marks(lock)), "none"}, tmp_path)) == [lock]
    assert list(locks_with({"none"}, tmp_path)) == []

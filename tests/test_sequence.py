"""Experiments whose seeds are added until their question is decided."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.reproduce.contradictions import _protocol
from microgpt.ablation.reproduce.recount import miscounted
from microgpt.core.check import BadValue
from microgpt.protocol.arms import Planned
from microgpt.protocol.protocol import check, content, digest_of
from microgpt.protocol.section import question
from microgpt.run.folder import all_runs
from microgpt.run.sweep import all_sweeps
from microgpt.sweep.sequence import answer, losses_of
from tests.conftest import Here
from tests.running import NAMES
from tests.sweeps import DOCUMENTS, HEADS, asked, heads, lock_of, noisy, page_of, rows

TEXTS = DOCUMENTS.split("\n")[:-1]
DATA = {"val_fraction": 0.1}
ARMS = [Planned(f"n_head={n}", {HEADS: str(n)}, range(50)) for n in (1, 4)]
WORSE = {"kind": "worse", "arms": [{HEADS: 1}]}


def section(**changes: Any) -> dict[str, Any]:
    return asked(**({"stopping": "sequential", "claim": WORSE, "axis": None} | changes))


def test_the_protocol_has_the_limit_and_the_looks() -> None:
    said = content(question(section()), ARMS, "s", DATA, "d")
    assert said["seeds"] == list(range(50))
    assert said["stop"] == {"rule": "sequential", "looks": [5, 9, 13, 17, 21, 26, 32, 40, 50]}
    fixed = section(stopping="fixed")
    assert content(question(fixed), ARMS, "s", DATA, "d")["stop"] == "fixed"
    del fixed["stopping"]  # as in protocols that were frozen before there was a choice
    before, now = (
        digest_of(content(question(one), ARMS, "s", DATA, "d"))
        for one in (fixed, section(stopping="fixed"))
    )
    assert before == now != digest_of(said)


@pytest.mark.parametrize(
    ("changes", "arms", "line"),
    [
        ({"stopping": "soon"}, ARMS, "ablation.stopping='soon': must be fixed or sequential"),
        ({}, [ARMS[0], replace(ARMS[1], seeds=range(9))], "needs the same seeds for all arms"),
        (
            {"fit": "n_params"},
            [*ARMS, replace(ARMS[0], name="c")],
            "must be fixed with ablation.fit",
        ),
    ],
)
def test_what_cannot_be_a_sequence(
    changes: Mapping[str, Any], arms: Sequence[Planned], line: str
) -> None:
    with pytest.raises(BadValue) as error:
        check(question(section(**changes)), arms)
    assert line in str(error.value)


def seen(difference: float, seeds: int, claim: Any) -> tuple[bool, str]:
    """The answer on 1 head, which is worse by a difference, give or take 0.001, after some seeds."""
    jobs = [
        {"arm": arm.name, "differs": arm.differs, "seed": seed, "run": f"{arm.name}/{seed}"}
        for arm in ARMS
        for seed in range(seeds)
    ]
    off = {"n_head=1": difference, "n_head=4": 0.0}
    losses = {
        str(job["run"]): 2.2
        + off[str(job["arm"])]
        + 0.001 * (job["seed"] % 3) * (off[str(job["arm"])] > 0)
        for job in jobs
        if isinstance(job["seed"], int)
    }
    return answer(question(section(claim=claim)), jobs, losses)


def test_an_answer_is_of_the_claim_or_else_of_the_arms() -> None:
    assert seen(0.03, 9, WORSE) == (True, "supported")
    assert seen(0.0001, 9, WORSE) == (True, "refuted")
    assert seen(0.0092, 5, WORSE) == (False, "undecided")
    assert seen(0.03, 9, None) == (True, "decided")
    assert seen(0.03, 3, None) == (False, "undecided for 1 arms")


@pytest.mark.parametrize(
    ("best", "told"), [(0.02, (True, "supported")), (0.01, (False, "undecided"))]
)
def test_arms_whose_best_rate_is_at_an_end_of_its_grid_decide_nothing(
    best: float, told: tuple[bool, str]
) -> None:
    """As in the report: the sweep would else end before its question is answered."""
    rate = "optimizer.lr"
    jobs, losses = [], {}
    for n, lr, seed in product((1, 4), (0.01, 0.02, 0.04), range(9)):
        name = f"n_head={n} lr={lr} seed={seed}"
        differs = {HEADS: str(n), rate: str(lr), "seed": str(seed)}
        arm = f"n_head={n} lr={lr}"
        jobs.append({"run": name, "name": name, "arm": arm, "seed": seed, "differs": differs})
        least = best if n == 1 else 0.02
        losses[name] = 2.3 + 0.1 * (n == 1) + abs(lr - least) + 0.0001 * (seed % 3)
    one, other = ({HEADS: n, rate: 0.02} for n in (1, 4))
    stated = section(baseline=other, claim={"kind": "worse", "arms": [one]}, axis=rate)
    assert answer(question(stated), jobs, losses) == told


MEANS = {1: 2.32, 2: 2.26, 4: 2.23}


def logged(bench: Path, seeds: int, **changes: Any) -> dict[str, Any]:
    made = heads(
        arms=[{HEADS: n} for n in MEANS],
        loss=noisy(MEANS),
        seeds=range(seeds),
        planned=range(30),
        ablation=section(**changes),
    )
    return dict(json.loads(json.dumps(lock_of(bench, made))))


def test_a_report_says_why_it_ended_and_its_intervals_hold_at_any_time(bench: Path) -> None:
    lock = logged(bench, 5)
    assert lock["verdict"] == "supported"
    assert lock["stopped"] == {"most": 30, "looks": [{"seeds": 5, "answer": "supported"}]}
    fixed = rows(lock_of(bench, heads(arms=[{HEADS: n} for n in MEANS], loss=noisy(MEANS))))
    for name, row in rows(lock).items():
        if row["difference"] and row["difference"]["low"] is not None:
            other = fixed[name]["difference"]
            assert row["difference"]["mean"] == other["mean"]
            assert row["difference"]["high"] > 1.5 * other["high"] - 0.5 * other["mean"]
        assert row["difference"] is None or row["difference"]["p"] is None
    page = page_of(lock)
    assert "It was decided after 5 of at most 30 seeds." in page
    assert "| 5 | supported |" in page
    assert "- stopping: seeds are added to all arms until" in page
    assert "30 at most; looks after 5, 9, 13, 17, 21, 26, 30 seeds\n" in page
    assert "paired t-test" not in page
    assert page.index("nats per token, and lower is better") < page.index("### When it ended")
    assert "- none: all 15 runs finished" in page
    assert miscounted(lock, TEXTS) is None
    assert not [*_protocol(lock)]


def test_a_sequence_that_was_cut_short_is_a_departure(bench: Path) -> None:
    near = {"kind": "worse", "arms": [{HEADS: 2}], "than": {HEADS: 1}}  # better by 0.06
    assert logged(bench, 9, claim=near)["verdict"] == "opposite"
    lock = logged(bench, 9, matters=0.09)
    assert lock["verdict"] == "undecided"
    assert "It had 9 of at most 30 seeds, and is undecided." in page_of(lock)
    assert "No more seeds were added, though the answer was open" in page_of(lock)


def test_a_forged_end_is_found(bench: Path) -> None:
    lock = logged(bench, 9)
    for change in (
        lambda it: it["stopped"]["looks"][0].update(answer="undecided"),
        lambda it: it["stopped"].update(most=9),
        lambda it: it.pop("stopped"),
    ):
        forged = copy.deepcopy(lock)
        change(forged)
        found = miscounted(forged, TEXTS)
        assert found is not None
        assert "in stopped" in found.verdict
    for run in lock["runs"]:
        run["seed"] += run["seed"] == 8
    (found, *_) = _protocol(lock)
    assert "the seeds of its runs" in found.verdict


TINY = (
    *(f"data.path={NAMES}", "data.val_fraction=0.3", "model.n_head=2", "model.block_size=6"),
    *("trainer.num_steps=30", "trainer.log_every=0", "trainer.eval_every=0"),
    *("trainer.checkpoint_every=0", "sampling.num_samples=0", "optimizer.lr=0.02"),
)
FILE = """# @package _global_
experiment: seq
hydra:
  sweeper:
    params: {{model.n_embd: "2,12", seed: "range(13)"}}
    ablation:
      question: Is wider better?
      source: Nobody 2020
      expectation: It is
      baseline: {{model.n_embd: 2}}
      matters: {matters}
      stopping: sequential
      claim: {{kind: better, arms: [{{model.n_embd: 12}}]}}
"""


def trained(here: Here, outputs: Path, place: Path, matters: float) -> str:
    (place / "own/experiment").mkdir(parents=True, exist_ok=True)
    (place / "own/experiment/seq.yaml").write_text(FILE.format(matters=matters))
    words = ["train", "-m", "--config-dir", str(place / "own"), "experiment=seq", *TINY]
    return here(outputs, *words, "hydra/launcher=basic")[0]


def test_a_job_that_was_refused_has_no_loss(outputs: Path, here: Here) -> None:
    words = ["train", "-m", *TINY, "model.n_head=2,3", "hydra/launcher=basic", "tracking=none"]
    here(outputs, *words)
    (sweep,) = all_sweeps(outputs)
    (trained,) = [job["run"] for job in sweep.jobs if job["differs"]["model.n_head"] == "2"]
    assert losses_of(sweep, "val/loss").keys() == {trained}


@pytest.mark.slow
def test_a_sweep_ends_when_its_claim_is_decided_and_goes_on_to_the_same_point(
    outputs: Path, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = trained(here, outputs, tmp_path, 0.01)
    told = [line for line in out.splitlines() if line.startswith("after ")]
    assert told[-1].endswith("of at most 13 seeds: supported")
    (sweep,) = all_sweeps(outputs)
    spent = len(sweep.jobs) // 2
    assert told[-1].startswith(f"after {spent} ")
    assert f"{2 * spent} jobs: {2 * spent} finished\n" in out
    runs = {run.path: (run.path / "run.json").stat().st_mtime_ns for run in all_runs(outputs)}
    assert len(runs) == len(sweep.jobs) < 26
    here(outputs, "report", "seq")
    lock = read_lock(outputs / "reports/seq" / LOCK)
    assert (lock["verdict"], lock["protocol"]["known_before"]) == ("supported", 0)
    assert lock["stopped"]["looks"][-1] == {"seeds": spent, "answer": "supported"}
    own = ("--config-dir", str(tmp_path / "own"))
    here(outputs, "verify", str(outputs / "reports/seq"), "--sample", "1", *own)

    for path in sorted(runs)[:3]:  # as if it had been killed before they were trained
        shutil.rmtree(path)
    again = trained(here, outputs, tmp_path, 0.01)
    assert [line for line in again.splitlines() if line.startswith("after ")] == told
    assert f"{2 * spent} jobs: 3 finished, {2 * spent - 3} skipped, finished before\n" in again
    assert len(all_sweeps(outputs)[0].jobs) == 2 * spent
    now = {run.path: (run.path / "run.json").stat().st_mtime_ns for run in all_runs(outputs)}
    assert now.keys() == runs.keys()
    assert sum(now[path] == runs[path] for path in runs) == len(runs) - 3


@pytest.mark.slow
def test_at_its_limit_a_sweep_is_undecided(
    outputs: Path, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = trained(here, outputs, tmp_path, 0.01)
    (sweep,) = all_sweeps(outputs)
    found = [sweep.run(job).metrics()[-1]["val/loss"] for job in sweep.jobs]
    half = len(found) // 2
    gain = (sum(found[:half]) - sum(found[half:])) / half  # nothing can tell it from what matters
    out = trained(here, outputs, tmp_path, round(gain, 3))
    assert "after 13 of at most 13 seeds: undecided" in out
    assert len(all_sweeps(outputs)[0].jobs) == 26

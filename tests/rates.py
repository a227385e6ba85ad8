"""A sweep of two learning rates that was trained, in a store, for tests of its report."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import text_of
from microgpt.ablation.report.report import report
from microgpt.protocol.arms import Planned
from microgpt.protocol.protocol import content, digest_of
from microgpt.protocol.section import question
from microgpt.run.folder import RunFolder
from microgpt.run.sweep import joint
from microgpt.tracking import open_store
from tests.running import stored, train_here

ARMS, SEEDS = ["0.01", "0.1"], [0, 1]
JOBS = [(lr, seed) for lr in ARMS for seed in SEEDS]

WORDS = ["trainer.num_steps=6", "trainer.eval_documents=5", "trainer.eval_every=3"]
WORDS += ["data.test_fraction=0.2"]
ASKED = {
    "question": "Which rate?",
    "source": "none",
    "expectation": "none",
    "baseline": {"optimizer.lr": 0.01},
    "matters": 0.01,
    "part": "test",
}


def trained(outputs: Path) -> None:
    """Two arms with two seeds each, and one run that failed, in the store of `outputs`."""
    _log_parent(outputs, [_train(outputs, lr, seed) for lr, seed in JOBS])


def reported(template: Path, outputs: Path) -> Path:
    """The folder of the report of that sweep, in outputs with a copy of a new store."""
    shutil.copy(template, outputs / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        trained(outputs)
        report("rates", None, outputs, outputs / "experiments")
    return outputs / "experiments"


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the lock by hand, its digest too, as one would who means to deceive."""
    lock = json.loads((folder / "results.lock.json").read_text())
    del lock["digest"]
    change(lock)
    (folder / "results.lock.json").write_text(text_of(lock))


def _train(outputs: Path, lr: str, seed: int) -> dict[str, Any]:
    """A job, and how sweep.json tells of it."""
    own = [f"optimizer.lr={lr}", f"seed={seed}"]
    code, run = train_here(outputs, *WORDS, *own, name=f"{lr}-{seed}")
    assert code == 0
    facts = {key: run.info[key] for key in ("signature", "source")}
    differs = {"optimizer.lr": lr, "seed": str(seed)}
    name, arm = f"lr={lr} seed={seed}", f"lr={lr}"
    return {
        "run": run.path.name,
        "name": name,
        "arm": arm,
        "seed": seed,
        "differs": differs,
        "tags": {"lr": lr, "seed": str(seed)},
        "overrides": own,
        **facts,
    }


def _log_parent(outputs: Path, jobs: list[dict[str, Any]]) -> None:
    runs = {run.data.tags["microgpt.id"]: run for run in stored(outputs)}
    client = open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
    first = runs[jobs[0]["run"]]
    failed = {**jobs[0], "run": "gone", "name": "lr=0.01 seed=2", "seed": 2, "signature": "c" * 64}
    config = RunFolder(outputs / "runs" / jobs[0]["run"]).config
    signature = joint([job["signature"] for job in (*jobs, failed)])
    arms = [
        Planned(f"lr={lr}", {"optimizer.lr": lr}, [*SEEDS, *([2] if lr == "0.01" else [])])
        for lr in ARMS
    ]
    digest = first.data.tags["data.digest"]
    frozen = content(question(ASKED), arms, signature, config["data"], digest)
    protocol = {"digest": digest_of(frozen), "time": "2026-01-01T00:00:00.000+00:00"}
    said = {
        "id": "abc-def",
        "signature": signature,
        "source": joint([job["source"] for job in (*jobs, failed)]),
        "protocol": protocol["digest"],
        "protocols": [protocol | {"commit": None, "content": frozen}],
        "experiment": "rates",
        "name": "rates",
        "description": "Two rates",
        "ablation": ASKED,
        "config": config,
        "grid": {},
        "jobs": [*jobs, failed],
    }
    tags = {"sweep.id": "abc-def", "sweep.experiment": "rates", "microgpt.id": "abc-def"}
    parent = client.create_run(first.info.experiment_id, tags=tags).info.run_id
    client.log_text(parent, json.dumps(said), "sweep.json")
    for job in jobs:
        client.set_tag(runs[job["run"]].info.run_id, "sweep.abc-def", job["arm"])

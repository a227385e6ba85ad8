"""Sweeps in a store that no one trained: what the sweep part leaves there, with figures of our own."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import yaml
from mlflow import MlflowClient

from microgpt.ablation.evidence.lock import LOCK
from microgpt.ablation.records.store import client_of
from microgpt.ablation.report.readme import render_readme
from microgpt.ablation.report.report import examine
from microgpt.core.check import BadValue
from microgpt.protocol.arms import Planned
from microgpt.protocol.protocol import content, digest_of
from microgpt.protocol.section import question
from microgpt.protocol.stopping import FIXED, begins
from microgpt.run.folder import to_yaml
from microgpt.tracking.store import experiment_id
from tests.rows import Logged, log_runs

HEADS, RATE, WIDTH = "model.n_head", "optimizer.lr", "model.n_embd"
FILES = {
    "README.md",
    "report.html",
    LOCK,
    "arms.png",
    "arms.svg",
    "curves.png",
    "curves.svg",
}  # of every report
STEPS = 200  # of every run, evaluated ten times
DOCUMENTS = "anna\nbert\ncarla\ndora\nemil\nfritz\ngerda\nhans\nida\njo\n"
CONFIG: dict[str, Any] = {
    "seed": 42,
    "experiment": None,
    "description": None,
    "resume": None,
    "progress": True,
    "trainer": {"num_steps": STEPS, "batch_size": 2, "eval_every": 20, "eval_documents": 5},
    "model": {
        "_target_": "microgpt.core.models.gpt.GPT",
        "n_layer": 1,
        "n_head": 4,
        "n_embd": 16,
        "block_size": 16,
        "norm": {"_target_": "microgpt.core.layers.norm.rmsnorm.RMSNorm", "eps": 1e-5},
    },
    "optimizer": {"_target_": "microgpt.core.optim.adam.Adam", "lr": 0.01},
    "schedule": {"_target_": "microgpt.core.schedule.linear.Linear", "warmup_steps": 0},
    "engine": {"_target_": "microgpt.vector.engine.VectorEngine"},
    "streams": {"_target_": "microgpt.core.streams.independent.Independent"},
    "data": {
        "_target_": "microgpt.datasets.sources.Names",
        "path": None,
        "val_fraction": 0.1,
        "test_fraction": 0.0,
        "split": "hash",
        "split_seed": 0,
    },
    "tracking": {"_target_": "microgpt.tracking.MLflow", "uri": None, "experiment": "microgpt"},
    "paths": {"outputs": "/somewhere/outputs"},
}
_made = count()
_clock = count(1_700_000_000_000, 1000)  # the later a run is logged, the later it began


@dataclass
class Made:
    """A sweep to log: its arms, seeds, and the last held-out loss of each job.

    `loss(arm, seed)` may give a word instead of a number: `failed`, `running`, `killed`, `missing`.
    """

    arms: Sequence[Mapping[str, Any]]
    loss: Callable[[Mapping[str, Any], int], float | str]
    name: str = "heads"
    seeds: Sequence[int] = range(5)
    planned: Sequence[int] | None = None  # the seeds of the protocol, where they are others
    ablation: Mapping[str, Any] | None = None
    n_params: Callable[[Mapping[str, Any]], int] = lambda arm: 4000
    fall: float = 0.005  # of the loss over the last fifth of the steps
    metrics: tuple[str, ...] = ("val/loss", "val/bpc")
    experiment: str | None = "heads"
    id: str = ""
    config: Mapping[str, Any] = field(default_factory=lambda: CONFIG)
    config_dir: str | None = None

    def __post_init__(self) -> None:
        said = sha256(f"{self.name} {next(_made)}".encode()).hexdigest()
        self.id = self.id or f"{said[:12]}-{said[12:20]}"


def asked(**changes: Any) -> dict[str, Any]:
    """An `ablation` section."""
    return {
        "question": "How many heads?",
        "source": "Nobody 2020, arXiv 2000.00000",
        "expectation": "An optimum between",
        "baseline": {"model.n_head": 4},
        "matters": 0.01,
        "claim": {"kind": "optimum"},
        "axis": "model.n_head",
    } | changes


def heads(**changes: Any) -> Made:
    """Five arms and five seeds, 4 heads the best."""
    arms = [{"model.n_head": n} for n in (1, 2, 4, 8, 16)]
    means = {1: 2.32, 2: 2.26, 4: 2.23, 8: 2.235, 16: 2.35}
    known: dict[str, Any] = {"arms": arms, "loss": noisy(means), "ablation": asked()}
    return Made(**known | changes)


def noisy(
    means: Mapping[Any, float], sd: float = 0.004, key: str = "model.n_head"
) -> Callable[[Mapping[str, Any], int], float]:
    """A mean an arm, what is common to a seed, and a little of each job's own."""

    def loss(arm: Mapping[str, Any], seed: int) -> float:
        common = Random(f"seed {seed}").gauss(0, 0.02)
        return means[arm[key]] + common + Random(f"{arm} {seed}").gauss(0, sd)

    return loss


def short(arm: Mapping[str, Any]) -> str:
    """`n_head=4 lr=0.01`."""
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in arm.items())


def log_sweep(outputs: Path, made: Made) -> str:
    """Log a sweep in the default store; returns the parent's run id."""
    uri = f"sqlite:///{outputs}/mlflow.db"
    client = MlflowClient(uri)
    home = experiment_id(client, "microgpt", uri, outputs)
    jobs = [_job(made, arm, seed) for arm in made.arms for seed in made.seeds]
    said = {
        "id": made.id,
        **begins((made.ablation or {}).get("stopping", FIXED), jobs),
        "experiment": made.experiment,
        "name": made.name,
        "description": f"About {made.name}",
        "overrides": [],
        "grid": {},
        "ablation": made.ablation,
        "config": made.config,
        "config_dir": made.config_dir,
        "jobs": jobs,
        **protocols(made, jobs),
    }
    tags = {"sweep.id": made.id, "microgpt.id": made.id}
    tags |= {"sweep.experiment": made.experiment} if made.experiment else {}
    parent = client.create_run(home, next(_clock), tags, made.name).info.run_id
    client.log_text(parent, json.dumps(said), "sweep.json")
    losses = [made.loss(arm, seed) for arm in made.arms for seed in made.seeds]
    runs = [_run(parent, made, job, loss) for job, loss in zip(jobs, losses) if loss != "missing"]
    log_runs(outputs, home, runs)
    client.set_terminated(parent, "FINISHED", next(_clock))
    return str(parent)


def protocols(made: Made, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The protocol of a sweep, frozen before its first run; none for a section that is wrong."""
    frozen: list[dict[str, Any]] = []
    with suppress(BadValue, TypeError):
        arms = [
            Planned(
                short(arm) or "default",
                {k: str(v) for k, v in arm.items()},
                made.planned or made.seeds,
            )
            for arm in made.arms
        ]
        signature = begins((made.ablation or {}).get("stopping", FIXED), jobs)["signature"]
        digest = sha256(DOCUMENTS.encode()).hexdigest()
        said = content(question(made.ablation), arms, signature, made.config["data"], digest)
        time = datetime.fromtimestamp(next(_clock) / 1000, UTC).isoformat(timespec="milliseconds")
        frozen = [{"digest": digest_of(said), "time": time, "commit": "c" * 40, "content": said}]
    return {"protocols": frozen, "protocol": frozen[0]["digest"] if frozen else None}


def _job(made: Made, arm: Mapping[str, Any], seed: int) -> dict[str, Any]:
    name = f"{short(arm)} seed={seed}".strip()
    said = sha256(f"{made.id} {name}".encode()).hexdigest()
    differs = {key: str(value) for key, value in {**arm, "seed": seed}.items()}
    return {
        "run": f"{said[:12]}-{said[12:20]}",
        "name": name,
        "arm": short(arm) or "default",
        "seed": seed,
        "differs": differs,
        "overrides": [f"{key}={value}" for key, value in differs.items()],
        "tags": {},
        "signature": said,
        "source": sha256(b"source").hexdigest(),
    }


def _run(parent: str, made: Made, job: Mapping[str, Any], loss: float | str) -> Logged:
    """The run of a job, as the store has it."""
    begun, ended = next(_clock), next(_clock)
    tags = {
        "microgpt.id": job["run"],
        "mlflow.parentRunId": parent,
        f"sweep.{made.id}": job["arm"],
        "seed": str(job["seed"]),
        "signature": job["signature"],
        "source": job["source"],
        "n_params": str(made.n_params(_differs(job))),
        "fingerprint.python": "CPython 3.11.7",
        "data.name": "names",
        "data.digest": sha256(DOCUMENTS.encode()).hexdigest(),
        "data.documents": "10",
        "data.val_documents": "2",
    }
    if isinstance(loss, str):
        reason = {"failed_at": "7", "reason": "train/loss is nan"} if loss == "failed" else {}
        return Logged(job["name"], loss.upper(), begun, ended, tags | reason)
    rows = curve(made, loss)
    tags["parameters_sha256"] = sha256(f"parameters {job['run']}".encode()).hexdigest()
    files = {
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "config.yaml": to_yaml(config_for(made, job)),
        "samples.txt": "anna\n",
        "run.json": "{}",
        "documents.txt": DOCUMENTS,
    }
    return Logged(job["name"], "FINISHED", begun, ended, tags, rows, files)


def _differs(job: Mapping[str, Any]) -> dict[str, Any]:
    return {key: yaml.safe_load(value) for key, value in job["differs"].items()}


def config_for(made: Made, job: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a job."""
    config: dict[str, Any] = json.loads(json.dumps(made.config))
    for key, value in _differs(job).items():
        *parents, last = key.split(".")
        inside = config
        for parent in parents:
            inside = inside[parent]
        inside[last] = value
    return config


def curve(made: Made, loss: float) -> list[dict[str, float]]:
    """Ten evaluations that end at `loss`, and fall by `made.fall` over the last two."""
    rows = []
    for i in range(1, 11):
        above = made.fall * (10 - i) / 2 if i >= 8 else made.fall + 0.02 * (8 - i)
        value = loss if i == 10 else loss + above
        row = {"step": STEPS * i // 10, "train/loss": value + 0.01, "lr": 0.01}
        figures = {"val/loss": value, "val/bpc": value * 1.7 / math.log(2)}
        row |= {key: figures[key] for key in made.metrics}
        rows.append(row | {"cost/seconds": i * 0.7, "cost/tokens_per_sec": 9000.0 + i})
    return rows


def address(bench: Path) -> str:
    return f"sqlite:///{bench}/mlflow.db"


def lock_of(bench: Path, made: Made) -> dict[str, Any]:
    """The lock of a sweep that is logged first."""
    log_sweep(bench, made)
    client, store = client_of(address(bench), bench)
    return examine(client, made.id, store)[1]


def rows(lock: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in lock["table"]}


def page_of(lock: dict[str, Any]) -> str:
    return render_readme(lock)


_names = count()


WIDTHS = {8: 2.30, 16: 2.22, 32: 2.16}


SIZES = {8: 1500, 16: 4700, 32: 16200}


BEST = {8: 0.02, 16: 0.01, 32: 0.01}


def tuning(best: dict[int, float] | None = None, **changes: Any) -> Made:
    """The sweep that finds each width's rate."""
    wanted = BEST | (best or {})
    section = asked(baseline={WIDTH: 16, RATE: 0.01}, axis=RATE)
    del section["claim"]
    known: dict[str, Any] = {
        "arms": [{WIDTH: w, RATE: r} for w in WIDTHS for r in (0.005, 0.01, 0.02, 0.04)],
        "loss": lambda arm, seed: (
            WIDTHS[arm[WIDTH]] + abs(math.log(arm[RATE] / wanted[arm[WIDTH]])) / 9 + seed * 1e-5
        ),
        "name": "width_tuning",
        "experiment": "width_tuning",
        "seeds": (100, 101),
        "ablation": section,
    }
    return Made(**known | changes)


def width(**changes: Any) -> Made:
    """The sweep over widths, each at its rate."""
    stated = {"kind": "power_law", "exponent": [0.02, 0.05]}
    known: dict[str, Any] = {
        "arms": [{WIDTH: w, RATE: BEST[w]} for w in WIDTHS],
        "loss": noisy(WIDTHS, sd=0.002, key=WIDTH),
        "name": "width",
        "experiment": "width",
        "n_params": lambda arm: SIZES[arm[WIDTH]],
        "ablation": asked(
            baseline={WIDTH: 16}, axis=WIDTH, tuning="width_tuning", fit="n_params", claim=stated
        ),
    }
    return Made(**known | changes)


def tuned_lock(bench: Path, tuned: Made | None) -> dict[str, Any]:
    """The lock of `width`, whose rates `tuned` chose, under a name of its own in the shared store."""
    name = f"tuning_{next(_names)}"
    if tuned:
        log_sweep(bench, replace(tuned, experiment=name))
    return lock_of(bench, width(ablation=dict(width().ablation or {}) | {"tuning": name}))

"""Recomputes a lock's numbers from the runs in the lock, without a store or training."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.ablation.evidence.lock import config_of
from microgpt.ablation.records.sweep import Arm, Run, Sweep
from microgpt.ablation.report.analysis import analyse
from microgpt.ablation.report.rates import Tuning, grids
from microgpt.ablation.reproduce.alike import unlike
from microgpt.ablation.reproduce.replay import Difference
from microgpt.core.check import BadValue
from microgpt.protocol.section import FIGURES, RATE
from microgpt.run.held_out import HeldOut
from microgpt.run.record import FINISHED
from microgpt.trust import OURS_ALONE, Trust

HELD_OUT: Mapping[str, HeldOut] = {}  # of no run: a lock has only its digest
# Not computed from the runs in a lock: what identifies them, and what took their files.
GIVEN = {
    *("schema", "experiment", "description", "sweep", "ablation", "protocol", "config", "data"),
    *("fingerprint", "source_files", "runs"),
}


def miscounted(
    lock: Mapping[str, Any],
    documents: Sequence[str],
    trust: Trust = OURS_ALONE,
    held_out: Mapping[str, HeldOut] = HELD_OUT,
) -> Difference | None:
    """The first number in the lock that its runs do not give, if any. Raises BadValue, Untrusted.

    held_out  the nats of the test documents, by the names of all runs; without them, what is computed from
              them is not compared
    """
    counted = _counted(lock, documents, trust, held_out)
    aside = GIVEN if held_out else GIVEN | {"crossed"}
    for key in (key for key in counted if key not in aside):
        if found := unlike(lock.get(key), counted[key], key):
            place, said, given = found
            says = f"it says {said!r}; its runs give {given!r}"
            return Difference(f"the lock contradicts itself in {place}", says)
    return None


def recounted(lock: Mapping[str, Any], documents: Sequence[str], trust: Trust) -> dict[str, Any]:
    """All that the runs in a lock give without the nats of their documents. Raises BadValue, Untrusted."""
    counted = _counted(lock, documents, trust, HELD_OUT)
    return {key: value for key, value in counted.items() if key not in GIVEN | {"crossed"}}


def _counted(
    lock: Mapping[str, Any],
    documents: Sequence[str],
    trust: Trust,
    held_out: Mapping[str, HeldOut],
) -> dict[str, Any]:
    try:
        return analyse(_sweep(lock, documents, trust, held_out), _tuning(lock, trust))
    except BadValue:
        raise
    except (ArithmeticError, ValueError) as error:
        allowed = f"its figures are out of range: {error}"
        raise BadValue("experiment", lock["experiment"], allowed) from error


def _sweep(
    lock: Mapping[str, Any],
    documents: Sequence[str],
    trust: Trust,
    held_out: Mapping[str, HeldOut],
) -> Sweep:
    """The sweep as far as it is in the lock."""
    figure = figure_of(lock)
    arms = []
    for row in lock["table"]:
        own = [run for run in lock["runs"] if run["arm"] == row["arm"]]
        runs = tuple(_run(lock, run, row["differs"], held_out.get(run["name"])) for run in own)
        arms.append(Arm(row["arm"], row["differs"], runs, figure))
    told = {
        key: lock[key] for key in ("experiment", "description", "ablation", "protocol", "config")
    }
    return Sweep(
        **told,
        **lock["sweep"],
        name=lock["experiment"],
        arms=tuple(arms),
        parent="",
        documents=tuple(documents),
        trust=trust,
    )


def figure_of(lock: Mapping[str, Any]) -> str:
    """The metric that judges."""
    return FIGURES[(lock["ablation"] or {}).get("part") or "validation"]


def _run(
    lock: Mapping[str, Any],
    run: Mapping[str, Any],
    differs: Mapping[str, str],
    held_out: HeldOut | None,
) -> Run:
    known = {key: run[key] for key in ("name", "arm", "seed", "status", "signature", "source")}
    known["differs"] = differs
    if run["status"] != FINISHED:
        return Run(**known)
    return Run(
        **known,
        tags={
            key: str(run[key]) for key in ("signature", "source", "parameters_sha256", "n_params")
        },
        metrics=run["metrics"],
        rows=run["curve"],
        samples=tuple(run["samples"]),
        held_out=held_out,
        config=config_of(lock, run),
    )


def _tuning(lock: Mapping[str, Any], trust: Trust) -> Tuning | None:
    """How the rates were chosen, by the runs that chose them."""
    said = lock["tuning"]
    if said is None or said["sweep"] is None:
        return said and Tuning(said["experiment"], None, (), (), {})
    arms: dict[str, list[Mapping[str, Any]]] = {}
    for run in said["runs"]:
        arms.setdefault(run["arm"], []).append(run)
    figure = said["figure"]
    found = Sweep(
        id=said["sweep"],
        signature="",
        source="",
        name=said["experiment"],
        experiment=said["experiment"],
        description=None,
        ablation=None,
        config={},
        arms=tuple(
            Arm(name, own[0]["differs"], _tried(own, figure), figure) for name, own in arms.items()
        ),
        parent="",
        documents=None,
        trust=trust,
    )
    shared = {run["seed"] for run in lock["runs"]} & {run["seed"] for run in said["runs"]}
    departs = {key: (pair[0], pair[1]) for key, pair in said["departs"].items()}
    return Tuning(
        said["experiment"], found, tuple(grids(found, RATE)), tuple(sorted(shared)), departs
    )


def _tried(runs: Sequence[Mapping[str, Any]], figure: str) -> tuple[Run, ...]:
    return tuple(
        Run(
            name="",
            arm=run["arm"],
            seed=run["seed"],
            status=run["status"],
            differs=run["differs"],
            metrics={} if run["loss"] is None else {figure: run["loss"]},
        )
        for run in runs
    )

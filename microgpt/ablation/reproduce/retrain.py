"""Trains a run of a lock again, and compares it with what the lock says."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from omegaconf import OmegaConf

from microgpt.ablation.evidence.lock import config_of, curve_of, held_out_sha256, metrics_sha256
from microgpt.ablation.reproduce.changes import changes
from microgpt.ablation.reproduce.replay import Again, Difference, again, same, ulps
from microgpt.ablation.reproduce.verify import Gone, Verdict, wanted
from microgpt.build import Parts, build
from microgpt.core.check import BadValue
from microgpt.run.documents import to_lines
from microgpt.run.held_out import measure
from microgpt.run.source import modules
from microgpt.terminal import ConfigError
from microgpt.train import identity
from microgpt.trust import Trust, replayed

Entry: TypeAlias = Mapping[str, Any]  # a lock, or a run in it
documents: dict[str, list[str]] = {}  # of the runs before, in this process


def run_again(lock: Entry, run: Entry, data: Path | None, trust: Trust) -> Verdict:
    """Trains a run of a lock again, in a process for its runs alone. Raises Gone, Untrusted."""
    parts = built_again(lock, run, data, trust, documents)
    now = identity(parts)
    before = {"source": run["source"], "fingerprint": run.get("fingerprint", lock["fingerprint"])}
    if files := lock.get("source_files", {}).get(run["source"]):
        before["source_files"] = files
    changed = changes(before, now, modules(parts.config))
    for key in ("signature", "n_params"):
        if now[key] != run[key]:
            says = f"the lock says {run[key]}, its configuration gives {now[key]}"
            return Verdict(Difference(f"the lock contradicts itself in {key}", says), changed)
    done = again(parts.trainer)
    difference = next(_differences(run, done), None)
    held_out = measure(parts.trainer) if parts.trainer.corpus.split.test else None
    if not difference and run["held_out_sha256"] != (told := held_out_sha256(held_out)):
        says = f"the lock says {run['held_out_sha256']}; trained again {told}"
        difference = Difference("diverged in the nats of the test documents", says)
    found = f"{parts.trainer.step} steps, parameters {str(done.parameters_sha256)[:12]}"
    return Verdict(difference, changed, found, held_out)


def built_again(
    lock: Entry,
    run: Entry,
    data: Path | None,
    trust: Trust,
    known: dict[str, list[str]] | None = None,
) -> Parts:
    """Builds a run's configuration on the documents of the lock. Raises Gone, Untrusted.

    known  documents that were read before, by their configuration; takes those of this run
    """
    config = OmegaConf.create(replayed(config_of(lock, run), trust))
    if data is not None:
        config.data.path = str(data.absolute())
    key, known = str(config.data), {} if known is None else known
    try:
        parts = build(config, known.get(key))
    except (ConfigError, BadValue) as error:
        advice = wanted(lock["data"]) if str(error).startswith("data.path") else ""
        raise Gone(f"{error}{advice}") from error
    if parts.data["digest"] != lock["data"]["digest"]:
        raise Gone(
            f"data={parts.data['name']}: other documents than the lock's{wanted(lock['data'])}"
        )
    known[key] = parts.documents
    return parts


def _differences(run: Mapping[str, Any], done: Again) -> Iterator[Difference]:
    """The differences between the lock and the run trained again."""
    if done.reason:
        yield Difference(
            f"diverged at step {done.failed_at}: {done.reason}", "the lock's run did not"
        )
    last = {key: value for row in done.rows for key, value in row.items() if key != "step"}
    for name in sorted({*last, *run["metrics"]}):
        said, now = run["metrics"].get(name), last.get(name)
        if said is None or now is None or not same(said, now):
            far = ulps(said, now) if said is not None and now is not None else None
            by = f", by {far:,} ulp" if far else ""
            says = f"the lock says {said!r}; trained again {now!r}"
            yield Difference(f"diverged at the last step in {name}{by}", says)
    samples = to_lines(done.samples or [])
    facts = {
        "metrics_sha256": metrics_sha256(done.rows),
        "samples_sha256": sha256(samples.encode()).hexdigest(),
        "parameters_sha256": done.parameters_sha256,
    }
    names = {"metrics_sha256": "the steps before the last", "samples_sha256": "the samples"}
    way: dict[str, Any] = {"curve": curve_of(done.rows), "samples": done.samples or []}
    for key in way:
        if run[key] != way[key]:
            says = f"the lock says {run[key]}; trained again {way[key]}"
            yield Difference(f"diverged in the {key}", says)
    for key, fact in facts.items():
        if run[key] != fact:
            says = f"the lock says {run[key]}; trained again {fact}"
            yield Difference(f"diverged in {names.get(key, 'the parameters')}", says)

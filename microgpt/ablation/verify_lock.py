"""`microgpt verify EXPERIMENT`: checks an experiment's lock and page, and trains some of its runs again.

It needs only the lock: no store, and for the package's own data no file.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from omegaconf import OmegaConf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import microgpt
from microgpt.ablation.changes import changes
from microgpt.ablation.lock import LOCK, config_of, content_of, digest, metrics_sha256, read_lock
from microgpt.ablation.recount import miscounted, misquoted
from microgpt.ablation.replay import Again, Difference, again, same, ulps
from microgpt.ablation.store import FINISHED
from microgpt.ablation.verify import CANNOT, EXACT, Gone, Verdict, tell, wanted
from microgpt.build import Parts, build
from microgpt.console import out
from microgpt.core.check import BadValue, integer
from microgpt.run.documents import to_lines
from microgpt.run.source import modules
from microgpt.signals import STOPPING
from microgpt.terminal import ConfigError, complain
from microgpt.train import identity
from microgpt.trust import OURS_ALONE, Trust, replayed

SHARE = 10  # by default, one of this many runs is trained again
PROCESSES = 2  # maximum number of parallel processes
Entry: TypeAlias = Mapping[str, Any]  # a lock, or a run in it


def lock_of(name: str, reports: Path | None = None) -> Path | None:
    """The lock of an experiment: in the folder `name`, in experiments/, or in `reports`.

    There is experiments/ here and beside the package.
    """
    places = [Path(name), *(folder / name for folder in _experiments(reports))]
    return next((place / LOCK for place in places if (place / LOCK).is_file()), None)


def recorded(reports: Path | None = None) -> list[str]:
    """The names of the experiments that have a lock."""
    files = [file for folder in _experiments(reports) for file in folder.glob(f"*/{LOCK}")]
    return sorted({file.parent.name for file in files})


def _experiments(reports: Path | None) -> list[Path]:
    published = [Path("experiments"), Path(microgpt.__file__).parent.parent / "experiments"]
    return [*published, *([reports] if reports else [])]


def verify_lock(
    path: Path, sample: int | None, seed: int, data: Path | None, trust: Trust = OURS_ALONE
) -> int:
    """Verifies an experiment and prints the verdict; returns an exit code.

    `sample` runs are chosen at random by `seed`; None is a tenth, at least one. Raises BadValue, BadRecord
    and Untrusted.
    """
    if sample is not None:
        integer("sample", sample, 1)
    if difference := _edited(path, content_of(path)):
        return tell(Verdict(difference, []))
    lock = read_lock(path)
    finished = [run for run in lock["runs"] if run["status"] == FINISHED]
    try:
        base = _built(lock, finished[0], data, trust)
    except Gone as error:
        complain(f"cannot run again: {error}")
        return CANNOT
    readme = path.with_name("README.md")
    if found := miscounted(lock, base.documents, trust) or misquoted(lock, readme):
        return tell(Verdict(found, []))
    out.print(f"{path} is intact, its numbers follow from its runs, and {readme} agrees with it")
    chosen = draw(finished, sample, seed)
    out.print(f"{len(chosen)} of {len(finished)} finished runs are trained again")
    jobs = [(lock, run, data, trust) for run in chosen]
    return _all(jobs)


def _edited(path: Path, content: Mapping[str, Any]) -> Difference | None:
    """The Difference if the lock's digest is not that of its content, else None."""
    if content["digest"] == digest(content):
        return None
    says = f"its digest is {content['digest']}; that of its content {digest(content)}"
    return Difference(f"{path} was changed by hand", says)


def draw(runs: Sequence[Any], sample: int | None, seed: int) -> list[Any]:
    """A random sample of the runs, in their order."""
    count = -(-len(runs) // SHARE) if sample is None else min(sample, len(runs))
    return [runs[i] for i in sorted(Random(seed).sample(range(len(runs)), count))]


def _all(jobs: Sequence[tuple[Entry, Entry, Path | None, Trust]]) -> int:
    """Trains all jobs again and prints the verdicts; stops at the first that differs."""
    count = min(PROCESSES, len(jobs), os.cpu_count() or 1)
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _die_silently)
    bar = Progress(
        TextColumn("runs"),
        MofNCompleteColumn(),
        BarColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("", total=len(jobs))
            waiting = {pool.submit(run_again, *job): job[1]["name"] for job in jobs}
            told: set[str] = set()  # changes already printed, since most runs share them
            for future in as_completed(waiting):
                out.print(f"run {waiting[future]}", markup=False)
                verdict = future.result()
                if verdict.difference:
                    return tell(verdict)
                tell(replace(verdict, changed=[c for c in verdict.changed if c not in told]))
                told.update(verdict.changed)
                bar.advance(task)
    except (Gone, BrokenProcessPool) as error:
        complain(f"cannot run again: {error}")
        return CANNOT
    finally:
        pool.shutdown(cancel_futures=True)
    return EXACT


def _die_silently() -> None:
    """Ctrl-C and SIGTERM end a worker without output, since the parent reports them."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)


def run_again(lock: Entry, run: Entry, data: Path | None, trust: Trust) -> Verdict:
    """Trains a run of a lock again. Raises Gone, Untrusted."""
    parts = _built(lock, run, data, trust)
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
    found = f"{parts.trainer.step} steps, parameters {str(done.parameters_sha256)[:12]}"
    return Verdict(difference, changed, found)


def _built(lock: Entry, run: Entry, data: Path | None, trust: Trust) -> Parts:
    """Builds a run's configuration on the documents of the lock. Raises Gone, Untrusted."""
    config = OmegaConf.create(replayed(config_of(lock, run), trust))
    if data is not None:
        config.data.path = str(data.absolute())
    try:
        parts = build(config)
    except (ConfigError, BadValue) as error:
        advice = wanted(lock["data"]) if str(error).startswith("data.path") else ""
        raise Gone(f"{error}{advice}") from error
    if parts.data["digest"] != lock["data"]["digest"]:
        raise Gone(
            f"data={parts.data['name']}: other documents than the lock's{wanted(lock['data'])}"
        )
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
    for key, fact in facts.items():
        if run[key] != fact:
            says = f"the lock says {run[key]}; trained again {fact}"
            yield Difference(f"diverged in {names.get(key, 'the parameters')}", says)

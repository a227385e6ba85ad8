"""Real judgements whose answer is known: `python experiments/method/soak.py` writes soak.json.

A tiny model is judged against itself with other seeds, TIMES times; `n_embd=12` against `n_embd=16`, with
the defaults of everything else, SOME times. It takes minutes.
"""

import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from microgpt.ablation.judge.arms import pair_of
from microgpt.ablation.judge.judge import judge
from microgpt.sweep import grow
from microgpt.sweep.worker import Task
from microgpt.trust import OURS_ALONE

FILE = Path(__file__).parent / "soak.json"
TIMES, SOME = 200, 20
TINY = (
    *("model.n_embd=4", "model.n_head=2", "model.block_size=8", "optimizer.lr=0.02"),
    *("trainer.num_steps=30", "trainer.eval_documents=100", "data.split_seed=1"),
)
BOTH = (
    *("tracking=none", "trainer.log_every=0", "trainer.eval_every=0", "trainer.checkpoint_every=0"),
    *("sampling.num_samples=0",),
)
MATTERS, MOST = 0.05, 20


class Here:
    """Does tasks in this process, without workers, which take longer to start than these runs."""

    def __init__(self, workers: int, limit: int) -> None:
        """As `Pool`."""

    def run(self, tasks: Sequence[Task], signals: list[int], more: bool = False) -> list[Any]:
        """What each task returns."""
        return [task.do() for task in tasks]

    def end(self) -> None:
        """There is nothing to end."""

    close = end


def judged(base: str, candidate: str, matters: float, most: int, *words: str) -> dict[str, Any]:
    """The facts of one judgement, whose runs are not kept."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as place, redirect_stdout(said):
        outputs = Path(place)
        both = [*BOTH, *words, f"paths.outputs={outputs}"]
        judge(pair_of(base, candidate, both, None, outputs, OURS_ALONE), matters, most, 1, True)
    facts: dict[str, Any] = json.loads(said.getvalue())
    return {key: facts[key] for key in ("answer", "pairs", "difference", "low", "high")}


def equal(times: int) -> Iterator[dict[str, Any]]:
    """A tiny model against itself."""
    for i in range(times):
        yield judged(f"seed={2000 * i}", f"seed={2000 * i + 1000}", MATTERS, MOST, *TINY)


def wider(times: int) -> Iterator[dict[str, Any]]:
    """A width of 16 against one of 12."""
    for i in range(times):
        yield judged("model.n_embd=12", "model.n_embd=16", 0.01, 50, f"seed={1000 * i}")


def main() -> None:
    grow.Pool = Here  # type: ignore[assignment,misc]
    known: dict[str, list[dict[str, Any]]] = {}
    for name, found in (("wider", wider(SOME)), ("equal", equal(TIMES))):
        known[name] = []
        for one in found:
            known[name].append(one)
            print(name, len(known[name]), one["answer"], one["pairs"], flush=True)
            FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

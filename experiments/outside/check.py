"""Trains what others published, and writes results.json and README.md beside this file.

    MICROGPT_DATA=FOLDER python experiments/outside/check.py [--soak] [--only NAME]

The folder has names.txt of the makemore lectures and tinyshakespeare.txt. What is missing there is
downloaded from where the sources `makemore` and `shakespeare` have it, or skipped if there is no network.
`--soak` also trains what takes minutes. Earlier results of what is not trained are kept.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the matrices are small
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import others
import table
from hydra import compose, initialize_config_dir

from microgpt.app import config_path
from microgpt.build import Parts, built, resolve
from microgpt.core.evaluation import evaluate
from microgpt.core.events import Event, Stepped
from microgpt.terminal import ConfigError

RESULTS = HERE / "results.json"
ALL = 10**9  # documents or windows


def last_steps(run: Parts) -> float:
    """The mean training loss of the last 100 steps."""
    return sum(trained(run)[-100:]) / 100


def validation(run: Parts) -> float:
    """The loss of all windows of the validation part."""
    trained(run)
    return loss_of(run)


def names(run: Parts) -> float:
    """The loss of all names, which are those of the training."""
    trained(run)
    return loss_of_training(run)


def counting(run: Parts) -> float:
    """The same of a bigram model whose table is counted, with one added to every count."""
    table = others.counted(run.documents, run.trainer.corpus.tokenizer)
    run.trainer.engine.load(
        run.trainer.weights, {"bigram": [number for row in table for number in row]}
    )
    return loss_of_training(run)


def counting_float32(run: Parts) -> float:
    """The same, summed from the first name to the last in float32, as the lecture does."""
    tokenizer = run.trainer.corpus.tokenizer
    return others.float32_sum(others.counted(run.documents, tokenizer), run.documents, tokenizer)


def trained(run: Parts) -> list[float]:
    """The training loss of every step."""
    losses: list[float] = []

    def keep(event: Event) -> None:
        if isinstance(event, Stepped):
            losses.append(event.loss)

    run.trainer.callbacks.append(keep)
    run.trainer.run()
    return losses


def loss_of_training(run: Parts) -> float:
    corpus = run.trainer.corpus
    corpus.split = corpus.split._replace(validation=corpus.split.train)
    return loss_of(run)


def loss_of(run: Parts) -> float:
    """Nats per token of the validation part."""
    of = run.trainer
    known = of.engine, of.model, of.weights, of.corpus
    score = evaluate(*known, "val", eval_documents=ALL, batch_size=of.batch_size)
    return score.nats / score.tokens


@dataclass(frozen=True)
class Check:
    """How a published figure is reached; `n_params` as published, or as their shapes give."""

    experiment: str
    file: str
    measure: Callable[[Parts], float]
    n_params: int
    seeds: int
    soak: bool = False


CHECKS = {
    "counted": Check("bigram", "names.txt", counting, 729, 1),
    "counted, float32": Check("bigram", "names.txt", counting_float32, 729, 1),
    "bigram": Check("bigram", "names.txt", names, 729, 5),
    "eemicrogpt": Check("eemicrogpt", "names.txt", last_steps, 14528, 10),
    "eemicrogpt, long": Check("eemicrogpt_long", "names.txt", last_steps, 14528, 2, soak=True),
    "gpt-dev": Check("gpt_dev", "tinyshakespeare.txt", validation, 209729, 5, soak=True),
}


def run_of(check: Check, seed: int, *words: str) -> Parts:
    """The parts of a check's run. Raises ConfigError if its data cannot be had."""
    file = Path(os.environ.get("MICROGPT_DATA", "")) / check.file
    data = [f"data.path={file}"] if file.is_file() else []
    search = f"hydra.searchpath=[file://{HERE / 'conf'}]"
    asked = [search, f"experiment={check.experiment}", "tracking=none", f"seed={seed}"]
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        run = built(resolve(compose("train", [*asked, *data, *words])))
    found = sum(weight.size for weight in run.trainer.shapes.values())
    if found != check.n_params:
        raise ValueError(f"{check.experiment}: {found} parameters, not {check.n_params}")
    return run


def results(check: Check) -> Iterator[dict[str, Any]]:
    """A check's figures, after each seed, or why there are none."""
    began, ours = process_time(), []
    for seed in range(check.seeds):
        try:
            ours.append(check.measure(run_of(check, seed)))
        except ConfigError as error:
            yield {"skipped": str(error)}
            return
        print(f"{check.experiment} seed {seed}: {ours[-1]:.4f}", flush=True)
        yield {"ours": ours, "seconds": round((process_time() - began) / len(ours), 1)}


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--soak", action="store_true")
    asked.add_argument("--only", choices=CHECKS)
    words = asked.parse_args()
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name, check in CHECKS.items():
        if words.only == name or (words.only is None and (words.soak or not check.soak)):
            for known[name] in results(check):
                RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    (HERE / "README.md").write_text(table.page(known), encoding="utf-8")


if __name__ == "__main__":
    main()

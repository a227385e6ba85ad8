"""A sweep over seeds as one would write it without a workbench: joblib, and MLflow's plain calls.

`python experiments/speed/plain_sweep.py RUNS STORE` trains default runs in two processes, with the model,
the engine and the training of this project. `throughput.py` measures it beside `microgpt train -m`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from hydra import compose, initialize_config_dir
from joblib import Parallel, delayed

from microgpt.app import config_path
from microgpt.build import built, resolve
from microgpt.core.events import Checkpointed, Event, Sampled, Stepped
from microgpt.run.checkpoint import write_checkpoint
from microgpt.run.identity import leaves


def config_for(seed: int) -> dict[str, Any]:
    """The configuration of one run."""
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        return resolve(compose("train", ["engine=native", f"seed={seed}"]))


def train(seed: int, store: str) -> None:
    """One run, tracked while it goes on."""
    config = config_for(seed)
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("plain")
    with mlflow.start_run(run_name=f"seed={seed}"), TemporaryDirectory() as place:
        mlflow.log_params(leaves(config))
        trainer = built(config).trainer

        def log(event: Event) -> None:
            match event:
                case Stepped(metrics=metrics) if metrics:
                    mlflow.log_metrics(metrics, step=event.step)
                case Checkpointed():
                    file = Path(place, f"step-{event.step}.safetensors")
                    write_checkpoint(file, event)
                    mlflow.log_artifact(str(file), "checkpoints")
                case Sampled():
                    mlflow.log_text("\n".join(event.samples), "samples.txt")

        trainer.callbacks.append(log)
        trainer.run()


if __name__ == "__main__":
    runs, store = int(sys.argv[1]), sys.argv[2]
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("plain")  # once: processes that set up one store together break it
    Parallel(n_jobs=2)(delayed(train)(seed, store) for seed in range(runs))

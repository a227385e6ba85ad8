"""Hold the core against the original program's figures; needs the standard library alone.

python tests/golden/check.py
"""

import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from microgpt.core.assemble import assemble  # noqa: E402
from microgpt.core.data import read_documents  # noqa: E402
from microgpt.core.engine.scalar import ScalarEngine  # noqa: E402
from microgpt.core.events import Event, Sampled, Stepped  # noqa: E402
from microgpt.core.layers.activation.relu import ReLU  # noqa: E402
from microgpt.core.layers.attention.multihead import MultiHead  # noqa: E402
from microgpt.core.layers.block.pre_norm import PreNorm  # noqa: E402
from microgpt.core.layers.head.untied import Untied  # noqa: E402
from microgpt.core.layers.init.gauss import Gauss  # noqa: E402
from microgpt.core.layers.mlp.feedforward import FeedForward  # noqa: E402
from microgpt.core.layers.norm.rmsnorm import RMSNorm  # noqa: E402
from microgpt.core.layers.position.learned import Learned  # noqa: E402
from microgpt.core.loss.cross_entropy import CrossEntropy  # noqa: E402
from microgpt.core.models.gpt import GPT  # noqa: E402
from microgpt.core.optim.adam_original import AdamOriginal  # noqa: E402
from microgpt.core.sampling import Sampler  # noqa: E402
from microgpt.core.schedule.linear import Linear  # noqa: E402
from microgpt.core.source import Source  # noqa: E402
from microgpt.core.streams.single import Single  # noqa: E402
from microgpt.core.trainer import Trainer  # noqa: E402
from microgpt.run.identity import libm_digest, parameters_sha256, signature  # noqa: E402

FILES = sorted(HERE.glob("*.json"))
SIGNATURES = sorted(HERE.glob("signatures/*.json"))
# The figures' last bits are those of glibc's exp, log and pow on a processor with FMA.
LIBM = "54aed7100c3a0c10b9b1ccb04e91a9190171ec54a0bd229f9e2822fa0f6f7311"
SAME_LIBM = libm_digest() == LIBM


def trainer_of(golden: dict[str, Any]) -> Trainer:
    """The original program with the constants of a golden file."""
    streams = Single(seed=golden["seed"])
    documents = read_documents((HERE / "names_tiny.txt").read_text(encoding="utf-8"))
    sizes = {key: golden[key] for key in ("block_size", "n_layer", "n_head", "n_embd")}
    model = partial(
        GPT,
        **sizes,
        norm_embd=True,
        norm_final=False,
        norm=RMSNorm(eps=1e-5),
        activation=ReLU(),
        position=Learned(),
        attention=MultiHead(),
        mlp=FeedForward(expansion=4),
        block=PreNorm(residual=1),
        head=Untied(),
        init=Gauss(std=0.08),
    )
    n, temperature = len(golden["samples"]), golden["temperature"]
    return assemble(
        source=Source(val_fraction=0, test_fraction=0, split="hash", split_seed=0),
        documents=documents,
        streams=streams,
        model=lambda vocab_size: model(vocab_size=vocab_size),
        loss=CrossEntropy(),
        engine=ScalarEngine(),
        optimizer=AdamOriginal(lr=golden["lr"], beta1=0.85, beta2=0.99, eps=1e-8),
        schedule=Linear(warmup_steps=0),
        sampler=Sampler(num_samples=n, temperature=temperature, top_k=0, top_p=1),
        num_steps=golden["num_steps"],
        batch_size=1,
        accumulate=1,
        eval_every=0,
        eval_documents=0,
        stop_after=golden["steps_run"],
        checkpoint_every=0,
        log_every=1,
        clip_norm=None,
    )


def check(file: Path) -> None:
    """Raises AssertionError where a figure is not the original's."""
    golden = json.loads(file.read_text(encoding="utf-8"))
    trainer = trainer_of(golden)
    losses: list[float] = []
    samples: list[str] = []

    def collect(event: Event) -> None:
        if isinstance(event, Stepped):
            losses.append(event.loss)
        elif isinstance(event, Sampled):
            samples.extend(event.samples)

    trainer.callbacks.append(collect)
    trainer.run()
    if SAME_LIBM:
        assert losses == golden["losses"]
        assert samples == golden["samples"]
        assert parameters_sha256(trainer.engine.flat(trainer.weights)) == golden["params_sha256"]
    else:
        pairs = zip(losses, golden["losses"], strict=True)
        assert all(math.isclose(ours, theirs, rel_tol=1e-9) for ours, theirs in pairs)


def check_signature(file: Path) -> None:
    """Raises AssertionError where a configuration has not the signature that it always had."""
    golden = json.loads(file.read_text(encoding="utf-8"))
    assert signature(golden["config"], golden["data_digest"]) == golden["signature"]


if __name__ == "__main__":
    bits = "to the last bit" if SAME_LIBM else "to 1e-9: this machine's libm has other last bits"
    for path in FILES:
        check(path)
    for path in SIGNATURES:
        check_signature(path)
    print(f"Python {sys.version.split()[0]}: {len(FILES)} golden files met {bits}, and signatures")

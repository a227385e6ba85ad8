"""Small runs on the names that lie beside the golden figures, with any part exchanged."""

from pathlib import Path
from typing import Any

from microgpt.core.assemble import assemble
from microgpt.core.data import read_documents
from microgpt.core.engine.base import Engine
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.block.pre_norm import PreNorm
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.normal import Normal
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.learned import Learned
from microgpt.core.loss.cross_entropy import CrossEntropy
from microgpt.core.models.gpt import GPT
from microgpt.core.optim.adam import Adam
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.linear import Linear
from microgpt.core.source import Source
from microgpt.core.streams.independent import Independent
from microgpt.core.trainer import Trainer

NAMES = Path(__file__).parent / "golden" / "names_tiny.txt"


def trainer_of(engine: Engine, **options: Any) -> Trainer:
    """The default model and trainer; options of the model, of the trainer, or the parts of either."""
    model: dict[str, Any] = {
        "block_size": 16,
        "n_layer": 1,
        "n_head": 4,
        "n_embd": 16,
        "norm_embd": True,
        "norm_final": False,
        "norm": RMSNorm(eps=1e-5),
        "activation": ReLU(),
        "position": Learned(),
        "attention": MultiHead(),
        "mlp": FeedForward(expansion=4),
        "block": PreNorm(residual=1),
        "head": Untied(),
        "init": Normal(std=0.08),
    }
    training: dict[str, Any] = {
        "optimizer": Adam(lr=0.01, beta1=0.85, beta2=0.99, eps=1e-8),
        "loss": CrossEntropy(),
        "schedule": Linear(warmup_steps=0),
        "num_steps": 10,
        "batch_size": 1,
        "accumulate": 1,
        "sampler": Sampler(num_samples=0, temperature=0.5, top_k=0, top_p=1),
        "eval_every": 0,
        "eval_documents": 0,
        "stop_after": None,
        "checkpoint_every": 0,
        "log_every": 0,
        "clip_norm": None,
    }
    make = options.pop("model", GPT)
    for key, value in options.items():
        (model if key in model else training)[key] = value
    if make is not GPT:
        model = {key: model[key] for key in ("block_size", "init")}
    return assemble(
        source=Source(val_fraction=0.1, test_fraction=0.1, split="hash", split_seed=0),
        documents=read_documents(NAMES.read_text(encoding="utf-8")),
        streams=Independent(seed=42),
        model=lambda vocab_size: make(vocab_size=vocab_size, **model),
        engine=engine,
        **training,
    )

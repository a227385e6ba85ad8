"""Train the default model on the vector engine, and print one hash of all its parameters.

python tests/golden/digest.py          the same line on every machine with IEEE-754 doubles
python tests/golden/digest.py libm     a hash of this machine's exp, log, pow, tanh and gauss instead
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from microgpt.core.model import GPT  # noqa: E402

from microgpt.core.data import make_corpus, read_documents  # noqa: E402
from microgpt.core.engine.base import Engine  # noqa: E402
from microgpt.core.layers.activation.relu import ReLU  # noqa: E402
from microgpt.core.layers.attention.multihead import MultiHead  # noqa: E402
from microgpt.core.layers.base import Activation, Norm, Position  # noqa: E402
from microgpt.core.layers.head.untied import Untied  # noqa: E402
from microgpt.core.layers.init.normal import Normal  # noqa: E402
from microgpt.core.layers.mlp.feedforward import FeedForward  # noqa: E402
from microgpt.core.layers.norm.rmsnorm import RMSNorm  # noqa: E402
from microgpt.core.layers.position.learned import Learned  # noqa: E402
from microgpt.core.optim.adam import Adam  # noqa: E402
from microgpt.core.sampling import Sampler  # noqa: E402
from microgpt.core.schedule.linear import Linear  # noqa: E402
from microgpt.core.streams.independent import Independent  # noqa: E402
from microgpt.core.trainer import Trainer  # noqa: E402
from microgpt.run.identity import libm_digest, parameters_sha256  # noqa: E402
from microgpt.vector.engine import VectorEngine  # noqa: E402

# After 100 steps. It changes where the engine adds or multiplies in another order, and only there.
PARAMETERS = "c0cfaaa1be5a05a9d06012e5d21d024b0f0580f8f7abe4fdb87c29738e290e6a"


def trainer_of(
    engine: Engine,
    *,
    num_steps: int,
    batch_size: int = 1,
    n_embd: int = 16,
    norm: Norm | None = None,
    activation: Activation | None = None,
    position: Position | None = None,
) -> Trainer:
    """The default model with exact initial weights on the tiny names; parts and sizes as asked."""
    streams = Independent(seed=42)
    documents = read_documents((HERE / "names_tiny.txt").read_text(encoding="utf-8"))
    corpus = make_corpus(documents, val_fraction=0, split_seed=0, rng=streams("data"))
    model = GPT(
        vocab_size=corpus.tokenizer.vocab_size,
        block_size=16,
        n_layer=1,
        n_head=4,
        n_embd=n_embd,
        norm=norm or RMSNorm(eps=1e-5),
        activation=activation or ReLU(),
        position=position or Learned(),
        attention=MultiHead(),
        mlp=FeedForward(expansion=4),
        head=Untied(),
        init=Normal(std=0.08),
    )
    return Trainer(
        model=model,
        engine=engine,
        optimizer=Adam(lr=0.01, beta1=0.85, beta2=0.99, eps=1e-8),
        schedule=Linear(warmup_steps=0),
        sampler=Sampler(num_samples=0, temperature=0.5, top_k=0, top_p=1),
        corpus=corpus,
        streams=streams,
        num_steps=num_steps,
        batch_size=batch_size,
        eval_every=0,
        eval_documents=0,
        stop_after=None,
        checkpoint_every=0,
        log_every=10,
        clip_norm=None,
    )


def digest() -> str:
    """The hash after 100 steps."""
    trainer = trainer_of(VectorEngine(), num_steps=100)
    trainer.run()
    return parameters_sha256(trainer.engine.flat(trainer.weights))


if __name__ == "__main__":
    print(libm_digest() if "libm" in sys.argv else digest())

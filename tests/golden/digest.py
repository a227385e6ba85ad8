"""Train the default model on the vector engine, and print one hash of all its parameters.

python tests/golden/digest.py          the same line on every machine with IEEE-754 doubles
python tests/golden/digest.py libm     a hash of this machine's exp, log, pow, tanh and gauss instead
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from microgpt.core.engine.base import Engine  # noqa: E402
from microgpt.core.trainer import Trainer  # noqa: E402
from microgpt.run.identity import libm_digest, parameters_sha256  # noqa: E402
from microgpt.vector.engine import VectorEngine  # noqa: E402
from tests import models  # noqa: E402

# After 100 steps. It changes where the engine adds or multiplies in another order, and only there.
PARAMETERS = "c0cfaaa1be5a05a9d06012e5d21d024b0f0580f8f7abe4fdb87c29738e290e6a"


def trainer_of(engine: Engine, **changes: Any) -> Trainer:
    """The default model with exact initial weights on the tiny names; parts and sizes as asked."""
    sizes = {"block_size": 16, "n_head": 4, "n_embd": 16}
    return models.trainer_of(engine, **sizes | {"num_samples": 0, "log_every": 10} | changes)


def digest() -> str:
    """The hash after 100 steps."""
    trainer = trainer_of(VectorEngine(), num_steps=100)
    trainer.run()
    return parameters_sha256(trainer.engine.flat(trainer.weights))


if __name__ == "__main__":
    print(libm_digest() if "libm" in sys.argv else digest())

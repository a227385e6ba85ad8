"""Hold the core against the original program's figures; needs the standard library alone.

python tests/golden/check.py [NAME ...]
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from microgpt.core.engine.scalar import ScalarEngine  # noqa: E402
from microgpt.core.events import Sampled, Stepped  # noqa: E402
from microgpt.core.layers.init.gauss import Gauss  # noqa: E402
from microgpt.core.optim.adam_original import AdamOriginal  # noqa: E402
from microgpt.core.streams.single import Single  # noqa: E402
from microgpt.core.trainer import Trainer  # noqa: E402
from microgpt.run.identity import libm_digest, parameters_sha256, signature  # noqa: E402
from tests import models  # noqa: E402

FILES = sorted(HERE.glob("*.json"))
SIGNATURES = sorted(HERE.glob("signatures/*.json"))
# The figures' last bits are those of glibc's exp, log and pow on a processor with FMA.
LIBM = "54aed7100c3a0c10b9b1ccb04e91a9190171ec54a0bd229f9e2822fa0f6f7311"
SAME_LIBM = libm_digest() == LIBM


def trainer_of(golden: dict[str, Any], **changes: Any) -> Trainer:
    """The original program with the constants of a golden file, and changes."""
    sizes = {key: golden[key] for key in ("block_size", "n_layer", "n_head", "n_embd")}
    given = {
        "engine": ScalarEngine(),
        "streams": Single,
        "init": Gauss(std=0.08),
        "optimizer": AdamOriginal(lr=golden["lr"], beta1=0.85, beta2=0.99, eps=1e-8),
        "num_samples": len(golden["samples"]),
        "stop_after": golden["steps_run"],
    }
    same = {key: golden[key] for key in ("seed", "temperature", "num_steps")}
    return models.trainer_of(**sizes | same | given | changes)


def check(file: Path) -> None:
    """Raises AssertionError where a figure is not the original's."""
    golden = json.loads(file.read_text(encoding="utf-8"))
    trainer = trainer_of(golden)
    events = models.events_of(trainer)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    samples = [text for event in events if isinstance(event, Sampled) for text in event.samples]
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
    asked = golden["config"], golden["data_digest"], golden["arithmetic"]
    assert signature(*asked) == golden["signature"]


if __name__ == "__main__":
    bits = "to the last bit" if SAME_LIBM else "to 1e-9: this machine's libm has other last bits"
    files = [path for path in FILES if path.stem in sys.argv[1:]] or FILES
    for path in files:
        check(path)
    for path in SIGNATURES:
        check_signature(path)
    print(f"Python {sys.version.split()[0]}: {len(files)} golden files met {bits}, and signatures")

"""The recorded cases, computed by our engines."""

from collections.abc import Mapping
from typing import Any

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.base import Activation, Norm
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.learned import Learned
from microgpt.core.model import GPT
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.sgd import SGD
from tests.oracle.case import Case, Rows

NORMS: dict[str, type[Norm]] = {"rmsnorm": RMSNorm, "layernorm": LayerNorm}
ACTIVATIONS: dict[str, type[Activation]] = {"relu": ReLU, "gelu": GELU}
RULES: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "sgd_momentum": SGD,
}


def layer(ops: Engine, name: str, case: Case) -> Case:
    """What a layer gives, and the gradients."""
    x = ops.parameter(case["inputs"]["x"])
    if name in NORMS:
        output = NORMS[name](**case["settings"])(ops, {}, x, "")
    else:
        output = ACTIVATIONS[name](**case["settings"])(ops, x)
    weighed = ops.mul(output, ops.constant(case["upstream"]))
    ops.backward(ops.row_sum(ops.transpose(ops.row_sum(weighed))))
    return {"output": ops.values(output), "gradients": gradients(ops, {"x": x}, case["inputs"])}


def loss(ops: Engine, name: str, case: Case) -> Case:
    """The value of a loss, and its gradient."""
    logits = ops.parameter(case["inputs"]["logits"])
    value = ops.mean(ops.cross_entropy(logits, case["targets"]))
    ops.backward(value)
    found = gradients(ops, {"logits": logits}, case["inputs"])
    return {"value": ops.values(value)[0][0], "gradients": found}


def gpt(ops: Engine, name: str, case: Case) -> Case:
    """The loss of a whole model, and the gradient of every weight."""
    model, w = model_of(case["settings"]), case["weights"]
    weights = {name: ops.parameter(w[name]) for name in model.shapes()}
    (batch,) = case["batches"]
    logits = model(ops, weights, batch["tokens"], [tuple(span) for span in batch["spans"]])
    value = ops.mean(ops.cross_entropy(logits, batch["targets"]))
    ops.backward(value)
    return {"loss": ops.values(value)[0][0], "gradients": gradients(ops, weights, w)}


def model_of(settings: Mapping[str, Any]) -> GPT:
    """Our model of these settings."""
    sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
    return GPT(
        **{key: settings[key] for key in sizes},
        norm=NORMS[settings["norm"]](eps=settings["eps"]),
        activation=ACTIVATIONS[settings["activation"]](),
        position=Learned(),
        attention=MultiHead(),
        mlp=FeedForward(expansion=settings["expansion"]),
        head=Untied(),
        init=Gauss(std=0.08),
    )


def gradients(
    ops: Engine, weights: Mapping[str, Matrix], like: Mapping[str, Rows]
) -> dict[str, Rows]:
    """The gradients, in the shapes of `like`."""
    return {name: rows(flat, like[name]) for name, flat in ops.gradients(weights).items()}


def rows(flat: list[float], like: Rows) -> Rows:
    """A flat list in the shape of another matrix."""
    width = len(like[0])
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def rule(ops: Engine, name: str, case: Case) -> Case:
    """The weights after some of the steps."""
    optimizer, start = RULES[name](**case["settings"]), case["start"]
    shapes = {name: (len(numbers), len(numbers[0])) for name, numbers in start.items()}
    optimizer.prepare(shapes, dict.fromkeys(shapes, 1.0))
    flat = {name: [x for row in numbers for x in row] for name, numbers in start.items()}
    after = {}
    for step, (given, rate) in enumerate(zip(case["gradients"], case["rates"]), 1):
        gradients = {name: [x for row in numbers for x in row] for name, numbers in given.items()}
        flat = optimizer.step(flat, gradients, rate)
        if str(step) in case["after"]:
            after[str(step)] = {name: rows(numbers, start[name]) for name, numbers in flat.items()}
    return {"after": after}


def has(name: str, case: Case) -> bool:
    """Whether we have all that a case asks for."""
    settings = case["settings"]
    if case["kind"] == "gpt":
        usual = {"block": "pre_norm", "residual": 1.0, "norm_embd": True, "norm_final": False}
        extra = settings.keys() & {"smoothing", "z_weight"} or len(case["batches"]) > 1
        return settings["norm"] in NORMS and usual.items() <= settings.items() and not extra
    return name in {*NORMS, *ACTIVATIONS, *RULES, "cross_entropy"}

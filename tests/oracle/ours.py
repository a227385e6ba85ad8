"""The recorded cases, computed by our engines."""

from collections.abc import Mapping
from typing import Any

from microgpt.core.data import Batch
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.base import Activation, Block, Norm
from microgpt.core.layers.block.post_norm import PostNorm
from microgpt.core.layers.block.pre_norm import PreNorm
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.norm.rmsnorm_gain import RMSNormGain
from microgpt.core.layers.position.learned import Learned
from microgpt.core.loss.base import Loss
from microgpt.core.loss.cross_entropy import CrossEntropy
from microgpt.core.loss.label_smoothing import LabelSmoothing
from microgpt.core.loss.z_loss import ZLoss
from microgpt.core.models.gpt import GPT
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.lion import Lion
from microgpt.core.optim.muon import Muon
from microgpt.core.optim.sgd import SGD
from microgpt.core.weight import Weight
from tests.oracle.case import Case

NORMS: dict[str, type[Norm]] = {
    "rmsnorm": RMSNorm,
    "rmsnorm_gain": RMSNormGain,
    "layernorm": LayerNorm,
}
ACTIVATIONS: dict[str, type[Activation]] = {"relu": ReLU, "gelu": GELU}
BLOCKS: dict[str, type[Block]] = {"pre_norm": PreNorm, "post_norm": PostNorm}
LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "label_smoothing": LabelSmoothing,
    "z_loss": ZLoss,
}
RULES: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "sgd_momentum": SGD,
    "lion": Lion,
    "muon": Muon,
    "muon_bfloat16": Muon,
}


def layer(ops: Engine, name: str, case: Case) -> Case:
    """What a layer gives, and the gradients."""
    inputs = ops.parameters(case["inputs"])
    if name in NORMS:
        w = {f"norm.{key}": matrix for key, matrix in inputs.items()}
        output = NORMS[name](**case["settings"])(ops, w, inputs["x"], "norm")
    else:
        output = ACTIVATIONS[name](**case["settings"])(ops, inputs["x"])
    weighed = ops.row_sum(output * ops.constant(case["upstream"]))
    ops.backward(ops.row_sum(ops.transpose(weighed)))
    return {"output": ops.values(output), "gradients": gradients(ops, inputs)}


def gradients(ops: Engine, weights: Weights) -> Case:
    """The gradients as rows."""
    return {name: ops.values(gradient) for name, gradient in ops.gradients(weights).items()}


def loss(ops: Engine, name: str, case: Case) -> Case:
    """The value of a loss, and its gradient."""
    inputs = ops.parameters(case["inputs"])
    value = objective(ops, LOSSES[name](**case["settings"]), inputs["logits"], case["targets"])
    ops.backward(value)
    return {"value": ops.values(value)[0][0], "gradients": gradients(ops, inputs)}


def objective(ops: Engine, minimised: Loss, logits: Matrix, targets: list[int]) -> Matrix:
    """What is minimised, as the trainer computes it."""
    plain = ops.mean(ops.cross_entropy(logits, targets))
    return minimised(ops, plain, logits, targets)


class Caught(Optimizer):
    """Keeps the gradients that a step gives it, and updates nothing."""

    elementwise = False

    def step(self, ops: Engine, given: Weights, lr: float, scale: float) -> None:
        self.caught = {name: ops.values(gradient) for name, gradient in given.items()}


def gpt(ops: Engine, name: str, case: Case) -> Case:
    """The loss of a whole model over all batches, and the gradient of every weight."""
    settings, caught = case["settings"], Caught(lr=1.0)
    model, minimised = model_of(settings), loss_of(settings)
    weights = ops.parameters({name: case["weights"][name] for name in model.shapes()})
    batches = [
        Batch(b["tokens"], b["targets"], [(start, stop) for start, stop in b["spans"]])
        for b in case["batches"]
    ]

    def forward(ops: Engine, w: Weights, batch: Batch) -> tuple[Matrix, Matrix]:
        logits = model(ops, w, batch.tokens, batch.spans)
        value = objective(ops, minimised, logits, batch.targets)
        return value, value

    value, _ = ops.step(forward, weights, batches, caught, lr=1.0, clip_norm=None, measured=False)
    return {"loss": value, "gradients": caught.caught}


def loss_of(settings: Mapping[str, Any]) -> Loss:
    """What the model of these settings minimises."""
    if "smoothing" in settings:
        return LabelSmoothing(smoothing=settings["smoothing"])
    return ZLoss(weight=settings["z_weight"]) if "z_weight" in settings else CrossEntropy()


def model_of(settings: Mapping[str, Any]) -> GPT:
    """Our model of these settings."""
    sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "norm_embd", "norm_final")
    return GPT(
        **{key: settings[key] for key in sizes},
        norm=NORMS[settings["norm"]](eps=settings["eps"]),
        activation=ACTIVATIONS[settings["activation"]](),
        position=Learned(),
        attention=MultiHead(),
        mlp=FeedForward(expansion=settings["expansion"]),
        block=BLOCKS[settings["block"]](residual=settings["residual"]),
        head=Untied(),
        init=Gauss(std=0.08),
    )


def rule(ops: Engine, name: str, case: Case) -> Case:
    """The weights after some of the steps."""
    optimizer = RULES[name](**case["settings"])
    weights = ops.parameters(case["start"])
    shapes = {name: Weight(*ops.shape(w), case["roles"][name]) for name, w in weights.items()}
    optimizer.prepare(ops, weights, shapes, dict.fromkeys(weights, 1.0))
    after = {}
    for step, (given, rate) in enumerate(zip(case["gradients"], case["rates"]), 1):
        gradients = ops.zeros_like(weights)  # kept as an engine keeps its own
        ops.load(
            gradients, {name: [x for row in rows for x in row] for name, rows in given.items()}
        )
        optimizer.step(ops, gradients, rate, 1.0)
        if str(step) in case["after"]:
            after[str(step)] = {name: ops.values(w) for name, w in weights.items()}
    return {"after": after}

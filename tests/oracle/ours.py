"""The recorded cases, computed by our engines."""

from collections.abc import Mapping
from typing import Any

from microgpt.core.data import Batch
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.activation.relu2 import ReLU2
from microgpt.core.layers.activation.silu import SiLU
from microgpt.core.layers.activation.tanh import Tanh
from microgpt.core.layers.attention.grouped_query import GroupedQuery
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.attention.none import NoAttention
from microgpt.core.layers.attention.sliding_window import SlidingWindow
from microgpt.core.layers.base import Activation, Attention, Block, Dims, Head, Norm, Position
from microgpt.core.layers.block.parallel import Parallel
from microgpt.core.layers.block.post_norm import PostNorm
from microgpt.core.layers.block.pre_norm import PreNorm
from microgpt.core.layers.block.sandwich import Sandwich
from microgpt.core.layers.head.soft_capped import SoftCapped
from microgpt.core.layers.head.tied import Tied
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.mlp.gated import Gated
from microgpt.core.layers.mlp.none import NoMLP
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.layernorm_affine import LayerNormAffine
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.norm.rmsnorm_gain import RMSNormGain
from microgpt.core.layers.position.alibi import ALiBi
from microgpt.core.layers.position.learned import Learned
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.layers.position.rope import RoPE
from microgpt.core.layers.position.sinusoidal import Sinusoidal
from microgpt.core.loss.base import Loss
from microgpt.core.loss.cross_entropy import CrossEntropy
from microgpt.core.loss.label_smoothing import LabelSmoothing
from microgpt.core.loss.z_loss import ZLoss
from microgpt.core.models.gpt import GPT
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adam_half_life import AdamHalfLife
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.lion import Lion
from microgpt.core.optim.muon import Muon
from microgpt.core.optim.nesterov import Nesterov
from microgpt.core.optim.sgd import SGD
from microgpt.core.weight import Weight
from tests.oracle.case import Case

NORMS: dict[str, type[Norm]] = {
    "rmsnorm": RMSNorm,
    "rmsnorm_gain": RMSNormGain,
    "layernorm": LayerNorm,
    "layernorm_affine": LayerNormAffine,
}
ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": ReLU,
    "relu2": ReLU2,
    "gelu": GELU,
    "silu": SiLU,
    "tanh": Tanh,
}
BLOCKS: dict[str, type[Block]] = {
    "pre_norm": PreNorm,
    "post_norm": PostNorm,
    "sandwich": Sandwich,
    "parallel": Parallel,
}
LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "label_smoothing": LabelSmoothing,
    "z_loss": ZLoss,
}
RULES: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adam_half_life": AdamHalfLife,
    "adamw": AdamW,
    "adamw_matrices": AdamW,
    "sgd": SGD,
    "nesterov": Nesterov,
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


class Scaled(Gauss):
    """Factors of the scores and of the logits."""

    def __init__(self, scale: float | None, logits: float) -> None:
        super().__init__(std=0.08)
        self.scale, self.logits = scale, logits

    def attention_scale(self, dims: Dims) -> float | None:
        return self.scale

    def output_scale(self, dims: Dims) -> float:
        return self.logits


def model_of(settings: Mapping[str, Any]) -> GPT:
    """Our model of these settings."""
    sizes = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
    flags = ("norm_embd", "norm_final", "norm_qk", "bias")
    expansion, kinds = settings["expansion"], {"feedforward": FeedForward, "gated": Gated}
    norm = settings["norm"]
    return GPT(
        **{key: settings[key] for key in (*sizes, *flags)},
        norm=NoNorm() if norm == "none" else NORMS[norm](eps=settings["eps"]),
        activation=ACTIVATIONS[settings["activation"]](),
        position=position_of(settings),
        attention=attention_of(settings),
        mlp=NoMLP() if settings["mlp"] == "none" else kinds[settings["mlp"]](expansion=expansion),
        block=BLOCKS[settings["block"]](residual=settings["residual"]),
        head=head_of(settings),
        init=Scaled(settings["scale"], settings["logits"]),
    )


def position_of(settings: Mapping[str, Any]) -> Position:
    match settings["position"]:
        case "rope":
            return RoPE(base=10000.0)
        case "sinusoidal":
            return Sinusoidal(amplitude=settings["amplitude"])
    return {"learned": Learned, "alibi": ALiBi, "none": NoPosition}[settings["position"]]()


def attention_of(settings: Mapping[str, Any]) -> Attention:
    match settings["attention"]:
        case "grouped_query":
            return GroupedQuery(n_kv_head=settings["n_kv_head"])
        case "sliding_window":
            return SlidingWindow(window=settings["window"])
    return NoAttention() if settings["attention"] == "none" else MultiHead()


def head_of(settings: Mapping[str, Any]) -> Head:
    if settings["head"] == "soft_capped":
        return SoftCapped(cap=settings["cap"])
    return Tied() if settings["head"] == "tied" else Untied()


def rule(ops: Engine, name: str, case: Case) -> Case:
    """The weights after some of the steps."""
    settings = dict(case["settings"])
    tokens = settings.pop("tokens", None)  # of a step
    optimizer = RULES[name](**settings)
    optimizer.measure(lambda: tokens)
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

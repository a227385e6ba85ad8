"""The feed-forward block of GPT-2, without biases."""

from microgpt.core.check import integer
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import MLP, Activation, Dims, Shapes, Weights


class FeedForward(MLP):
    """fc2(activation(fc1(x))), `expansion` times as wide inside (arXiv 1706.03762, 3.3)."""

    def __init__(self, *, expansion: int) -> None:
        self.expansion = integer("expansion", expansion, 1)

    def shapes(self, dims: Dims) -> Shapes:
        hidden = self.expansion * dims.n_embd
        return {"mlp_fc1": (hidden, dims.n_embd), "mlp_fc2": (dims.n_embd, hidden)}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, activation: Activation) -> Matrix:
        return ops.linear(activation(ops, ops.linear(x, w["mlp_fc1"])), w["mlp_fc2"])

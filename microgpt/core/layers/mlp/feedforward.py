"""The MLP of GPT-2."""

from microgpt.core.check import integer
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import MLP, Activation, Dims, Shapes, project
from microgpt.core.weight import Weight


class FeedForward(MLP):
    """fc2(activation(fc1(x))), with hidden width `expansion * n_embd` (arXiv 1706.03762, 3.3)."""

    def __init__(self, *, expansion: int) -> None:
        self.expansion = integer("expansion", expansion, 1)

    def shapes(self, dims: Dims) -> Shapes:
        hidden = self.expansion * dims.n_embd
        return {
            "mlp_fc1": Weight(hidden, dims.n_embd, "matrix"),
            "mlp_fc2": Weight(dims.n_embd, hidden, "residual_out"),
        }

    def __call__(self, ops: Engine, w: Weights, x: Matrix, activation: Activation) -> Matrix:
        return project(ops, w, "mlp_fc2", activation(ops, project(ops, w, "mlp_fc1", x)))

"""An MLP with a gate."""

from microgpt.core.check import integer
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import MLP, Activation, Dims, Shapes, project
from microgpt.core.weight import Weight


class Gated(MLP):
    """fc2(activation(gate(x)) * fc1(x)): SwiGLU with SiLU, GEGLU with GELU, ReGLU with ReLU.

    Shazeer 2020, arXiv 2002.05202, equation 6. The hidden width is 2/3 of `expansion * n_embd`,
    rounded, so that its three matrices have the parameters of the two of a feed-forward MLP.
    """

    def __init__(self, *, expansion: int) -> None:
        self.expansion = integer("expansion", expansion, 1)

    def shapes(self, dims: Dims) -> Shapes:
        hidden = (2 * self.expansion * dims.n_embd + 1) // 3  # the nearest
        inner = Weight(hidden, dims.n_embd, "matrix")
        outer = Weight(dims.n_embd, hidden, "residual_out")
        return {"mlp_gate": inner, "mlp_fc1": inner, "mlp_fc2": outer}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, activation: Activation) -> Matrix:
        gate = activation(ops, project(ops, w, "mlp_gate", x))
        return project(ops, w, "mlp_fc2", gate * project(ops, w, "mlp_fc1", x))

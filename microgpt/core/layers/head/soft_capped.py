"""An untied output projection with bounded logits."""

from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.head.untied import Untied


class SoftCapped(Untied):
    """cap * tanh(x lm_head^T / cap), so that logits lie between -cap and cap.

    Gemma 2, arXiv 2408.00118, section 2; Bello et al. 2016, arXiv 1611.09940, equation 16.
    """

    def __init__(self, *, cap: float) -> None:
        self.cap = positive("cap", cap)

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return self.cap * ops.tanh(super().__call__(ops, w, x) * (1 / self.cap))

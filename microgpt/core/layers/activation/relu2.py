"""The squared rectified linear unit."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Activation


class ReLU2(Activation):
    """max(0, x)^2 (So et al. 2021 (Primer), arXiv 2109.08668, section 3)."""

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return ops.relu(x) ** 2

"""The rectified linear unit."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Activation


class ReLU(Activation):
    """max(0, x) (Nair & Hinton 2010)."""

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return ops.relu(x)

"""The Gaussian error linear unit."""

from math import pi, sqrt

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Activation


class GELU(Activation):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh approximation of x * Phi(x), as in GPT-2.

    Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2.
    """

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return 0.5 * (x * (1 + ops.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))))

"""No MLP: blocks of attention alone."""

from microgpt.core.layers.base import MLP


class NoMLP(MLP):
    """Omitted, with its norm and its residual sum (Elhage et al. 2021, attention-only transformers)."""

    present = False

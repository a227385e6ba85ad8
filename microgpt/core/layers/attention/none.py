"""No attention: blocks of an MLP alone."""

from microgpt.core.layers.base import Attention


class NoAttention(Attention):
    """Omitted, with its norm and its residual sum: a logit depends on the last token and its position."""

    present = False

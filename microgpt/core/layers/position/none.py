"""No position encoding: the causal mask alone carries positions (Haviv et al. 2022, arXiv 2203.16634)."""

from microgpt.core.layers.base import Position


class NoPosition(Position):
    """Encodes nothing."""

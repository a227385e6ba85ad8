"""No positions: causal attention still tells them apart (Haviv et al. 2022, arXiv 2203.16634)."""

from microgpt.core.layers.base import Position


class NoPosition(Position):
    """Every hook of a position left as it is."""

"""Parallel block: attention and MLP read the same normalised input."""

from collections.abc import Mapping, Sequence

from microgpt.core.engine.base import Matrix
from microgpt.core.layers.base import Block, NormAt, Sublayer


class Parallel(Block):
    """y = x + attention(norm(x)) + mlp(norm(x)), with one norm.

    Wang & Komatsuzaki 2021 (GPT-J); Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, section 2.
    """

    def sites(self, sublayers: Sequence[str]) -> list[str]:
        return ["norm_block"] if sublayers else []

    def __call__(self, x: Matrix, norm: NormAt, sublayers: Mapping[str, Sublayer]) -> Matrix:
        if not sublayers:
            return x
        read = norm(x, "norm_block")
        first, *rest = (sublayer(read) for sublayer in sublayers.values())
        for out in rest:
            first = first + out
        return self.add(first, x)

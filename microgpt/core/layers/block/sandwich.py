"""Sandwich norm: the input and the output of every sublayer are normalised."""

from collections.abc import Sequence

from microgpt.core.engine.base import Matrix
from microgpt.core.layers.base import Block, NormAt, Sublayer


class Sandwich(Block):
    """y = x + norm(attention(norm(x)));  z = y + norm(mlp(norm(y))), with four norms.

    Ding et al. 2021 (CogView), arXiv 2105.13290, section 2.4; Gemma 2, arXiv 2408.00118, section 2.
    """

    def sites(self, sublayers: Sequence[str]) -> list[str]:
        return [each for site in super().sites(sublayers) for each in (site, f"{site}_out")]

    def around(self, sublayer: Sublayer, x: Matrix, norm: NormAt, site: str) -> Matrix:
        return self.add(norm(sublayer(norm(x, site)), f"{site}_out"), x)

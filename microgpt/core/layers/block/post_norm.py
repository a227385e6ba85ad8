"""Post-norm: the residual stream is normalised after every sublayer."""

from microgpt.core.engine.base import Matrix
from microgpt.core.layers.base import Block, NormAt, Sublayer


class PostNorm(Block):
    """y = norm(x + attention(x));  z = norm(y + mlp(y)) (Vaswani et al. 2017, arXiv 1706.03762, 3.1).

    With `residual` above 1 it is DeepNorm (Wang et al. 2022, arXiv 2203.00555) without its
    initialisation.
    """

    def around(self, sublayer: Sublayer, x: Matrix, norm: NormAt, site: str) -> Matrix:
        return norm(self.add(sublayer(x), x), site)

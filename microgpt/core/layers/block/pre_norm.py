"""Pre-norm: the input of every sublayer is normalised."""

from microgpt.core.engine.base import Matrix
from microgpt.core.layers.base import Block, NormAt, Sublayer


class PreNorm(Block):
    """y = x + attention(norm(x));  z = y + mlp(norm(y)) (Radford et al. 2019).

    Compared with post-norm by Xiong et al. 2020, arXiv 2002.04745.
    """

    def around(self, sublayer: Sublayer, x: Matrix, norm: NormAt, site: str) -> Matrix:
        return self.add(sublayer(norm(x, site)), x)

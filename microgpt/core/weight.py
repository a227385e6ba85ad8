"""Weights and their roles: initialisation, learning rates and update rules depend on the role."""

from typing import Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal[
    "embedding",  # a lookup table: a row for each token or position
    "matrix",  # a projection inside the model
    "residual_out",  # a projection into the residual stream
    "output",  # the projection to the vocabulary
    "gain",  # a row of factors
    "bias",  # a row of offsets
]
HIDDEN = ("matrix", "residual_out")  # the matrices inside the blocks


class Weight(NamedTuple):
    """The shape `[n_out][n_in]` of a weight and its role."""

    n_out: int
    n_in: int
    role: Role

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.n_out * self.n_in

"""What a weight is for: initialisation, learning rates and update rules go by its role, not its name."""

from typing import Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal[
    "embedding",  # a row for each token or position, found by its index
    "matrix",  # a projection inside the model
    "residual_out",  # a projection into the residual stream
    "output",  # the projection to the vocabulary
    "gain",  # factors, a row
    "bias",  # terms, a row
]
HIDDEN = ("matrix", "residual_out")  # the matrices between embeddings and output


class Weight(NamedTuple):
    """The shape `[n_out][n_in]` of a weight and its role."""

    n_out: int
    n_in: int
    role: Role

    @property
    def size(self) -> int:
        """How many parameters it holds."""
        return self.n_out * self.n_in

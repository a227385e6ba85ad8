"""The contract of an optimizer: flat lists of numbers and gradients in, new numbers out."""

from collections.abc import Mapping

from microgpt.core.check import positive


class Optimizer:
    """An update rule; a subclass names its slots and writes `update` for one weight.

    A slot is a number that is kept for every parameter, such as Adam's first moment. `steps` counts
    the updates done; slots and steps are all the state there is.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, *, lr: float) -> None:
        self.lr = positive("lr", lr)
        self.steps = 0
        self.state: dict[str, dict[str, list[float]]] = {}  # slot -> weight -> flat numbers

    def prepare(
        self, shapes: Mapping[str, tuple[int, int]], lr_scales: Mapping[str, float]
    ) -> None:
        """Learn the weights' shapes and shares of the learning rate; all slots start at 0."""
        self.shapes, self.lr_scales = shapes, lr_scales
        self.state = {
            slot: {name: [0.0] * (rows * columns) for name, (rows, columns) in shapes.items()}
            for slot in self.slots
        }

    def restore(self, steps: int, state: dict[str, dict[str, list[float]]]) -> None:
        """Go on from the state that another optimizer of this class had after `steps` updates."""
        self.steps, self.state = steps, state

    def step(
        self, values: Mapping[str, list[float]], gradients: Mapping[str, list[float]], lr: float
    ) -> dict[str, list[float]]:
        """New numbers for every weight, at learning rate `lr`."""
        self.steps += 1
        return {
            name: self.update(name, values[name], gradients[name], lr * self.lr_scales[name])
            for name in values
        }

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        """New numbers for one weight; `values` and the slots may be changed in place."""
        raise NotImplementedError

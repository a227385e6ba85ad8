"""The contract of an optimizer: a weight and its gradient in, new numbers out, as matrices of an engine."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.weight import Weight

Slots: TypeAlias = dict[str, Matrix]  # those of one weight
Update: TypeAlias = Callable[[Engine, Matrix, Matrix, Slots, float], Matrix]


class Optimizer:
    """An update rule, written once in the operations of an engine.

    A slot is a number that is kept for every parameter, such as Adam's first moment. `steps` counts
    the updates done; slots and steps are all the state there is. A rule that is `elementwise` treats
    every number alone, so that an engine may update all weights as one matrix.
    """

    slots: tuple[str, ...] = ()
    elementwise = True

    def __init__(self, *, lr: float) -> None:
        self.lr = positive("lr", lr)
        self.steps = 0
        self.state: dict[str, dict[str, Matrix]] = {}  # slot -> weight -> numbers

    def update_of(self, weight: Weight) -> Update:
        """The rule for this weight."""
        return self.update

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        """The slots that this weight has."""
        return self.slots

    def prepare(
        self,
        ops: Engine,
        weights: Weights,
        shapes: Mapping[str, Weight],
        lr_scales: Mapping[str, float],
    ) -> None:
        """Learn the weights' shapes, roles and shares of the learning rate; all slots start at 0."""
        self.shapes, self.lr_scales = shapes, lr_scales
        owners: dict[str, dict[str, Matrix]] = {}
        for name, weight in shapes.items():
            for slot in self.slots_of(weight):
                owners.setdefault(slot, {})[name] = weights[name]
        self.state = {slot: ops.zeros_like(owning) for slot, owning in owners.items()}

    def restore(
        self, ops: Engine, steps: int, state: Mapping[str, Mapping[str, list[float]]]
    ) -> None:
        """Go on from the state that an optimizer of this class had after `steps` updates."""
        self.steps = steps
        for slot, matrices in self.state.items():
            ops.load(matrices, state[slot])

    def step(
        self, ops: Engine, weights: Weights, gradients: Weights, lr: float, scale: float
    ) -> None:
        """Update every weight from its gradient times `scale`, at learning rate `lr`."""
        self.steps += 1
        state: Mapping[str, Weights] = self.state
        share = next(iter(self.lr_scales.values()))
        together = self.elementwise and all(s == share for s in self.lr_scales.values())
        if together:
            weights, gradients = ops.joined(weights), ops.joined(gradients)
            state = {slot: ops.joined(matrices) for slot, matrices in state.items()}
        for name, w in weights.items():
            update = self.update if together else self.update_of(self.shapes[name])
            rate = lr * (share if together else self.lr_scales[name])
            g = gradients[name] if scale == 1 else scale * gradients[name]
            slots = {slot: numbers[name] for slot, numbers in state.items() if name in numbers}
            ops.assign(w, update(ops, ops.detached(w), g, slots, rate))
            for slot, numbers in slots.items():
                ops.assign(state[slot][name], numbers)

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        """New numbers for the parameters p with gradient g; new numbers of a slot go into `slots`."""
        raise NotImplementedError

"""The interface of an optimizer: new values of a weight from its gradient, as matrices of an engine."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.models.base import Model
from microgpt.core.weight import Weight

Slots: TypeAlias = dict[str, Matrix]  # the optimizer state of one weight, by slot
Update: TypeAlias = Callable[[Engine, Matrix, Matrix, Slots, float], Matrix]


class Optimizer:
    """An update rule, written in the operations of an engine.

    A slot is a matrix of state per weight, such as Adam's first moment. `steps` is the number of
    updates done. Slots and steps are the whole state. If `elementwise`, the rule updates each
    parameter independently, so that an engine may update all weights as one matrix.
    """

    slots: tuple[str, ...] = ()
    elementwise = False

    def __init__(self, *, lr: float) -> None:
        self.lr = positive("lr", lr)
        self.steps = 0
        self.state: dict[str, dict[str, Matrix]] = {}  # slot -> weight name -> matrix

    def check(self, model: Model) -> None:
        """Raises BadValue if the rule does not fit the model's initialisation, as muP's."""

    def measure(self, tokens: Callable[[], float]) -> None:
        """Told before `prepare`: `tokens()` is the mean number of predicted tokens of a step."""

    def update_of(self, weight: Weight) -> Update:
        """The update rule of this weight."""
        return self.update

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        """The names of this weight's slots."""
        return self.slots

    def prepare(
        self,
        ops: Engine,
        weights: Weights,
        shapes: Mapping[str, Weight],
        lr_scales: Mapping[str, float],
    ) -> None:
        """Sets the weights to update, with their roles and learning-rate scales; slots start at 0."""
        owners: dict[str, dict[str, Matrix]] = {}
        for name, weight in shapes.items():
            for slot in self.slots_of(weight):
                owners.setdefault(slot, {})[name] = weights[name]
        self.state = {slot: ops.zeros_like(owning) for slot, owning in owners.items()}
        rates, updates = dict(lr_scales), {name: self.update_of(w) for name, w in shapes.items()}
        alike = {(rates[name], updates[name], self.slots_of(w)) for name, w in shapes.items()}
        self._together = self.elementwise and len(alike) == 1
        state: dict[str, Weights] = dict(self.state)
        if self._together:
            ((rate, update, _),) = alike
            weights = ops.joined(weights)
            state = {slot: ops.joined(matrices) for slot, matrices in state.items()}
            rates, updates = dict.fromkeys(weights, rate), dict.fromkeys(weights, update)
        self._parts = [
            _Part(name, w, _own(state, name), rates[name], updates[name])
            for name, w in weights.items()
        ]

    def restore(
        self, ops: Engine, steps: int, state: Mapping[str, Mapping[str, list[float]]]
    ) -> None:
        """Restores the state that an optimizer of this class had after `steps` updates."""
        self.steps = steps
        for slot, matrices in self.state.items():
            ops.load(matrices, state[slot])

    def step(self, ops: Engine, gradients: Weights, lr: float, scale: float) -> None:
        """Updates every weight from its gradient times `scale`, at learning rate `lr`."""
        self.steps += 1
        gradients = ops.joined(gradients) if self._together else gradients
        for name, weight, own, lr_scale, update in self._parts:
            g, slots = gradients[name], own.copy()
            g = g if scale == 1 else scale * g
            p = _apart(update(ops, ops.detached(weight), g, slots, lr * lr_scale), None, own)
            if slots != own:  # else they were changed in place
                new = {slot: _apart(slots[slot], x, own) for slot, x in own.items()}
                for slot, matrix in own.items():
                    ops.assign(matrix, new[slot])
            ops.assign(weight, p)  # the last, since a slot may keep its numbers

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        """Returns the new values of the weight p with gradient g; replaces the matrices in `slots`."""
        raise NotImplementedError


class _Part(NamedTuple):
    """One weight, or all weights joined in one row."""

    name: str
    weight: Matrix
    slots: Slots
    lr_scale: float
    update: Update


def _own(state: Mapping[str, Weights], name: str) -> Slots:
    """The slots of one weight."""
    return {slot: matrices[name] for slot, matrices in state.items() if name in matrices}


def _apart(x: Matrix, own: Matrix | None, slots: Slots) -> Matrix:
    """The numbers of x, in a matrix of their own where x is a slot other than `own`: it is given others."""
    return x * 1 if x is not own and x in slots.values() else x

"""The forward and the backward pass over a few tokens, operation by operation."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from microgpt.ablation.inspect.recording import Operation, Recording
from microgpt.ablation.inspect.watching import Grid
from microgpt.core.engine.base import Matrix
from microgpt.core.models.base import Model

LENGTH = 4  # tokens: enough for attention, few enough to be read
PARTS = {  # of a model: the names of what its methods compute
    "norm": {"__call__": "norm"},
    "activation": {"__call__": "activation"},
    "position": {"embed": "token and position", "rotate": "rotated"},
    "attention": {"__call__": "attention output"},
    "mlp": {"__call__": "mlp output"},
    "head": {"__call__": "logits"},
}
OF_WEIGHTS = {"attn_wq": "q", "attn_wk": "k", "attn_wv": "v", "attn_wo": "attention output"}
OF_WEIGHTS |= {"mlp_fc1": "mlp hidden", "mlp_gate": "mlp gate", "mlp_fc2": "mlp output"}


@dataclass(frozen=True)
class Walk:
    """The operations in the order in which they are computed."""

    ids: list[int]  # [T] tokens
    targets: list[int | None]  # [T] tokens that follow
    operations: list[Operation]
    weights: list[Operation]
    logits: Operation
    loss: Operation | None  # the mean over the targets that are known; None if none is


def walk(
    model: Model,
    rows: Mapping[str, Grid],
    ids: Sequence[int],
    targets: Sequence[int | None],
    length: int = LENGTH,
) -> Walk:
    """The passes of a model with weights `rows` over the first tokens of one document."""
    ops, ids, targets = Recording(), list(ids[:length]), list(targets[:length])
    logits = _in_parts(model, ops)(ops, ops.named_weights(rows), ids, [(0, len(ids))])
    made = ops.made(logits)
    made.name = "logits"
    for operation in ops.operations:
        operation.name = _name(operation)
    known = [t for t, target in enumerate(targets) if target is not None]
    loss = None
    if known:
        if len(known) < len(ids):
            logits = ops.gather(logits, known)
        mean = ops.part(
            "loss",
            lambda: ops.mean(ops.cross_entropy(logits, [i for i in targets if i is not None])),
        )
        ops.backward(mean)
        loss = ops.made(mean)
    else:
        ops.part("probabilities", lambda: ops.softmax(logits))
    used = [weight for weight in ops.weights.values() if weight.terms]
    return Walk(ids, targets, ops.operations, used, made, loss)


def _name(operation: Operation) -> str:
    """The name of an operation, where it says more than what is computed."""
    if operation.name == "sum" and operation.layer is not None and not operation.part:
        return "residual"
    if not operation.weights or operation.name not in ("rows", "linear", "sum"):
        return operation.name
    weight = operation.weights[-1].removeprefix(f"layer{operation.layer}.")
    name = OF_WEIGHTS.get(weight.removesuffix(".bias"), weight)
    return {"rows": f"{name} rows", "linear": name, "sum": f"{name} + bias"}[operation.name]


def _in_parts(model: Model, ops: Recording) -> Model:
    """The model with parts that tell the engine what they compute, as far as it has such parts."""
    model = copy(model)
    for key, names in PARTS.items():
        if hasattr(model, key):
            setattr(model, key, _Part(getattr(model, key), names, ops))
    if hasattr(model, "block"):
        model.block = _Block(model.block, ops)
    return model


class _Part:
    """A part of a model; what some of its methods compute has a name."""

    def __init__(self, whole: Any, names: Mapping[str, str], ops: Recording) -> None:
        self._whole, self._names, self._ops = whole, names, ops

    def __getattr__(self, key: str) -> Any:
        method = getattr(self._whole, key)
        if key not in self._names:
            return method
        return lambda *given: self._ops.part(self._names[key], lambda: method(*given))

    def __call__(self, *given: Any) -> Matrix:
        made: Matrix = self.__getattr__("__call__")(*given)
        return made


class _Block:
    """The blocks of a model, one layer after the other."""

    def __init__(self, whole: Any, ops: Recording) -> None:
        self._whole, self._ops, self._next = whole, ops, 0

    def __call__(self, *given: Any) -> Matrix:
        self._ops.layer, self._next = self._next, self._next + 1
        made: Matrix = self._whole(*given)
        self._ops.layer = None
        return made

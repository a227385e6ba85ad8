"""An engine that records the operations of a forward pass, with their values and gradients."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Any, TypeAlias

from microgpt.ablation.inspect.rules import LOSS, RULES, Rule, head_rules
from microgpt.ablation.inspect.watching import Grid
from microgpt.core.engine.shapes import Bias, Spans
from microgpt.vector.engine import VectorEngine
from microgpt.vector.node import Back, Node

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix


@dataclass(eq=False)
class Operation:
    """A result of the forward pass, or a weight."""

    name: str
    symbol: str  # in the equations of others: `#7`, or the name of a weight
    equation: str  # "" of a weight
    value: Grid
    layer: int | None = None
    head: int | None = None  # of attention
    part: str = ""  # the part of the model that computed it, within the layer
    weights: list[str] = field(default_factory=list)  # that it reads
    terms: list[str] = field(
        default_factory=list
    )  # of its gradient, from the operations that read it
    gradient: Grid | None = None  # None if the loss does not depend on it


class Recording(VectorEngine):
    """The vector engine; of one document, it records every operation that the model calls.

    An operation that the engine makes of others is recorded as one, but attention head by head, and
    the cross-entropy as softmax, choice and logarithm.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.weights: dict[str, Operation] = {}
        self.layer: int | None = None
        self._leaves: dict[str, Matrix] = {}
        self._known: dict[int, tuple[Matrix, Operation]] = {}  # by id: a kept node keeps its id
        self._parts: list[str] = []
        self._inside = False

    def named_weights(self, rows: Mapping[str, Grid]) -> dict[str, Matrix]:
        """Makes the weights of a model; the equations have their names."""
        self._leaves |= self.parameters(rows)
        for name, leaf in self._leaves.items():
            self.weights[name] = Operation(name, name, "", leaf.rows)
            self._known[id(leaf)] = leaf, self.weights[name]
        return self._leaves

    def made(self, matrix: Matrix) -> Operation:
        """The operation whose result a matrix is."""
        return self._known[id(matrix)][1]

    def part(self, name: str, compute: Callable[[], Matrix]) -> Matrix:
        """Computes a part of the model; the last operation in it has the name of the part."""
        before = len(self.operations)
        self._parts.append(name)
        matrix = compute()
        self._parts.pop()
        if self.operations[before:] and self.made(matrix) is self.operations[-1]:
            self.operations[-1].name = name
        return matrix

    def backward(self, loss: Matrix) -> None:
        """Afterwards every operation and every weight has its gradient."""
        super().backward(loss)
        for name, leaf in self._leaves.items():
            self.weights[name].gradient = leaf.grad

    def attention(
        self,
        q: Matrix,
        k: Matrix,
        v: Matrix,
        *,
        n_head: int,
        spans: Spans,
        bias: Bias = None,
        scale: float | None = None,
    ) -> Matrix:
        size = len(q.rows[0]) // n_head
        share = n_head * size // len(k.rows[0])  # query heads per key-value head
        factor = 1 / sqrt(size) if scale is None else scale
        outs = []
        for h in range(n_head):
            own, read = h * size, h // share * size
            of_scores, of_weights, of_output = head_rules(
                h, (own, own + size), (read, read + size), factor, bias is not None
            )
            with self._hidden():
                q_h, k_h = self.columns(q, own, own + size), self.columns(k, read, read + size)
                mask = self.constant(_mask(len(q.rows), None if bias is None else bias[h]))
                scores = self.linear(q_h, k_h) * factor + mask
                weights = self.softmax(scores)
                v_h = self.columns(v, read, read + size)
                outs.append(self.linear(weights, self.transpose(v_h)))
            self._note(of_scores, scores, (q, k), h)
            self._note(of_weights, weights, (scores,), h)
            self._note(of_output, outs[-1], (weights, v), h)
        return self.concat_columns(outs)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        probabilities = self.part("probabilities", lambda: self.softmax(logits))
        chosen = self.part("probability of the next", lambda: self.pick(probabilities, targets))
        with self._hidden():
            losses = -self.log(chosen)
        self._note(LOSS, losses, (chosen,))
        return losses

    def record(self, rule: Rule, compute: Callable[[], Matrix], operands: Iterable[Any]) -> Matrix:
        """Computes an operation, and records it unless it is a part of another."""
        if self._inside:
            return compute()
        with self._hidden():
            matrix = compute()
        self._note(rule, matrix, operands)
        return matrix

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        """In here nothing is recorded."""
        before, self._inside = self._inside, True
        yield
        self._inside = before

    def _note(
        self, rule: Rule, matrix: Matrix, operands: Iterable[Any], head: int | None = None
    ) -> None:
        inputs = [self.made(x) if isinstance(x, Node) else x for x in operands]
        said = [_said(x) for x in inputs]
        read = [x for x in inputs if isinstance(x, Operation)]
        symbol = f"#{len(self.operations) + 1}"
        words = {
            "all": ", ".join(said),
            "y": symbol,
            "d": f"∂{symbol}",
            "rows": len(read[0].value) if read else 0,
        }
        top = left = 0
        for i, operand in enumerate(read if rule.backward else []):
            term = rule.backward[min(i, len(rule.backward) - 1)]
            words["down"] = f"{top}:{(top := top + len(operand.value))}"
            words["across"] = f"{left}:{(left := left + len(operand.value[0]))}"
            if rule.repeats:
                term = _folded(term, operand.value, matrix.rows)
            operand.terms.append(term.format(*said, **words))
        operation = Operation(
            name=rule.name,
            symbol=symbol,
            equation=rule.forward.format(*said, **words),
            value=matrix.rows,
            layer=self.layer,
            head=head,
            part=self._parts[-1] if self._parts else "",
            weights=[x.name for x in read if not x.equation],
        )
        self.operations.append(operation)
        self._known[id(matrix)] = matrix, operation
        matrix.gated = False  # else a gradient that the ReLU before does not pass is not computed
        if matrix.traced:
            matrix.back = _keeping(operation, matrix.back)


def _recorded(name: str) -> Callable[..., Matrix]:
    """The method of the engine, recorded."""
    method = getattr(VectorEngine, name)

    def call(ops: Recording, *given: Any, **named: Any) -> Matrix:
        operands = (*given, *named.values())
        if name.startswith("concat"):
            (operands,) = operands
        return ops.record(RULES[name], lambda: method(ops, *given, **named), operands)

    return call


for _name in RULES:
    setattr(Recording, _name, _recorded(_name))


def _keeping(operation: Operation, back: Back) -> Back:
    """A node's backward function, which is called with the node's whole gradient, and keeps it."""

    def call(gradient: Grid) -> Iterable[Grid]:
        operation.gradient = gradient
        return back(gradient)

    return call


def _folded(term: str, operand: Grid, result: Grid) -> str:
    """The term of an operand that was repeated to the shape of the result."""
    if len(operand) < len(result):
        term = f"sum over rows of ({term})"
    return f"sum({term})" if len(operand[0]) < len(result[0]) else term


def _mask(size: int, bias: Sequence[float] | None) -> Grid:
    """What is added to the scores `[t][s]`: the bias of the distance, and -inf ahead of the query."""
    far = bias or [0.0] * size
    return [[far[t - s] if s <= t else -inf for s in range(size)] for t in range(size)]


def _said(operand: Any) -> str:
    """An operand in an equation."""
    if isinstance(operand, Operation):
        return operand.symbol
    if isinstance(operand, Sequence):
        return ", ".join(map(str, operand))
    return f"{operand:.6g}"

"""The equations of a walk, computed with NumPy: what the page of a run says is what was computed."""

import re
from typing import Any

import numpy as np

from microgpt.ablation.inspect.recording import Operation
from microgpt.ablation.inspect.walk import Walk

SUMS = (
    (r"(.*), -∞ ahead", r"ahead(\1)"),
    (r"sum over rows of (\(.*\))", r"np.sum(\1, axis=0, keepdims=True)"),
    (r"mean of the rows of (.*)", r"np.mean(\1, axis=0, keepdims=True)"),
    (r"columns of (#.*)", r"np.hstack([\1])"),
    (r"rows of (#.*)", r"np.vstack([\1])"),
    (r"(.*) where (.*), else 0", r"(\1) * (\2)"),
    (r"(.*) added to rows (.*)", r"added(\1, [\2])"),
    (r"(.*) at columns (.*), else 0", r"spread(\1, [\2])"),
    (r"(.*) at columns (.*)", r"picked(\1, [\2])"),
    (r"(.*) in each (?:row|column)", r"\1 + 0 * own"),
    (r"(.*) in (\[:, \d+:\d+\])", r"within(\1, '\2')"),
)
SYMBOLS = (
    (r"∂#(\d+)", r"G['#\1']"),
    (r"(?<!')#(\d+)", r"V['#\1']"),
    (r"((?:layer\d+\.)?(?:wte|wpe|[a-z]+_[a-z0-9]+(?:\.bias|\.gain)?))", r"V['\1']"),
    (r"(V\['[^']+'\])\[(\d+(?:, \d+)*)\]", r"\1[[\2]]"),
    (r"(\d) ([GV]\[)", r"\1 * \2"),
    ("·", "@"),
    ("ᵀ", ".T"),
    ("²", "**2"),
    (r"\^", "**"),
    ("√", "np.sqrt"),
)


class Equations:
    """Values and gradients by symbol."""

    def __init__(self, walk: Walk) -> None:
        every = [*walk.operations, *walk.weights]
        self.values = {each.symbol: np.array(each.value) for each in every}
        self.gradients = {
            each.symbol: np.array(each.gradient) for each in every if each.gradient is not None
        }

    def value(self, operation: Operation) -> Any:
        """What the equation of an operation says."""
        return self._computed(operation.equation, operation)

    def gradient(self, operation: Operation) -> Any:
        """What the terms of its gradient say."""
        return sum(self._computed(term, operation) for term in operation.terms)

    def _computed(self, text: str, operation: Operation) -> Any:
        for pattern, better in SUMS:
            text = re.sub(f"^{pattern}$", better, text)
        for pattern, better in SYMBOLS:
            text = re.sub(pattern, better, text)
        own = self.values[operation.symbol]
        names = {
            "V": self.values,
            "G": self.gradients,
            "own": own,
            "np": np,
            "exp": np.exp,
            "ln": np.log,
            "tanh": np.tanh,
            "sign": np.sign,
            "max": lambda x: np.max(x, axis=1, keepdims=True),
            "softmax": lambda x: np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True),
            "sum": lambda x: np.sum(x, axis=1, keepdims=True),
            "mean": lambda x: np.mean(x, axis=1, keepdims=True),
            "ahead": lambda x: np.where(np.tri(len(x)) > 0, x, -np.inf),
            "picked": lambda x, ids: x[range(len(x)), ids][:, None],
            **{name: _into(own, name) for name in ("added", "spread", "within")},
        }
        with np.errstate(invalid="ignore"):
            return eval(text, names)


def _into(own: Any, how: str) -> Any:
    """Writes into zeros of an operand's shape."""

    def written(x: Any, where: Any) -> Any:
        zeros = np.zeros_like(own)
        if how == "added":
            np.add.at(zeros, where, x)
        elif how == "spread":
            zeros[range(len(zeros)), where] = x[:, 0]
        else:
            start, stop = map(int, re.findall(r"\d+", where))
            zeros[:, start:stop] = x
        return zeros

    return written

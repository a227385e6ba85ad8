"""The drawing of a walk: each operation with its numbers, and the gradient below them."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from microgpt.ablation.inspect.draw import shown
from microgpt.ablation.inspect.recording import Operation
from microgpt.ablation.inspect.walk import Walk
from microgpt.ablation.inspect.watching import Grid

WIDEST, HIGHEST = 32, 8  # numbers shown of a row, rows shown of a weight
HEADS = 4  # whose numbers are shown
TERMS = 5  # of a gradient's equation
STYLE = """
.steps{container-type:inline-size}
summary{cursor:pointer;padding:2px 0}
.group>summary{font-weight:600;margin-top:8px}
.group>details,.group>.listed,.group>p{margin-left:16px}
.line{display:inline-grid;width:calc(100% - 20px);vertical-align:top}
.line{grid-template-columns:8fr 7fr;gap:0 16px}
@container (max-width:800px){.line{grid-template-columns:1fr}}
.line b{display:inline-block;min-width:2.6em}
.line i{color:#777;font-style:normal;white-space:nowrap}
.back{color:#b3402a}
.numbers{display:flex;gap:4px 28px;flex-wrap:wrap;margin:2px 0 10px 16px}
.numbers>div,.listed{max-width:100%;overflow-x:auto}
.numbers td,.numbers th{padding:0 6px;min-width:6.5ch;text-align:right;white-space:nowrap}
.numbers td,.numbers th{font:12px/1.5 ui-monospace,monospace}
.numbers th{color:#777;background:#fff;position:sticky;left:0}
.numbers th:first-child{min-width:1ch}
.back td{color:inherit}
"""


def steps(walk: Walk, seen: Sequence[str], vocabulary: Sequence[str]) -> str:
    """The tokens, the operations in groups, and the weights."""
    page = _Page(walk, seen, vocabulary)
    parts = [_tokens(walk, seen, vocabulary)]
    for layer, operations in groupby(walk.operations, key=lambda operation: operation.layer):
        parts.append(page.group(layer, list(operations)))
    shown_weights = [weight for weight in walk.weights if not page.folded(_layer(weight))]
    inner = "".join(map(page.step, shown_weights))
    more = len(walk.weights) - len(shown_weights)
    note = f"<p>and {more} of the layers between</p>" if more else ""
    parts.append(_details("group", f"Weights: {len(walk.weights)}", inner + note))
    return f'<div class="steps">{"".join(parts)}</div>'


def _tokens(walk: Walk, seen: Sequence[str], vocabulary: Sequence[str]) -> str:
    rows = ["<tr><th>position</th><th>token</th><th>id</th><th>next</th><th>id</th></tr>"]
    for t, (i, target) in enumerate(zip(walk.ids, walk.targets)):
        follows = ("", "") if target is None else (shown(vocabulary[target]), str(target))
        cells = (str(t), shown(seen[t]), str(i), *follows)
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


class _Page:
    """What the tables of one walk have in common."""

    def __init__(self, walk: Walk, seen: Sequence[str], vocabulary: Sequence[str]) -> None:
        self.walk = walk
        self.tokens = [shown(token) for token in seen[: len(walk.ids)]]
        self.vocabulary = [shown(token) for token in vocabulary]
        self.last = max((o.layer for o in walk.operations if o.layer is not None), default=0)
        self.ends = walk.operations[walk.operations.index(walk.logits) :]

    def folded(self, layer: int | None) -> bool:
        """Whether a layer is neither the first nor the last."""
        return layer is not None and 0 < layer < self.last

    def group(self, layer: int | None, operations: Sequence[Operation]) -> str:
        """The operations of one layer, or of what is before or after the layers."""
        name = f"Layer {layer}"
        if layer is None:
            name = "Logits and loss" if operations[-1] in self.ends else "Embeddings"
        first, last = operations[0].symbol, operations[-1].symbol
        title = f"{name}: {first} to {last}" if first != last else f"{name}: {first}"
        if self.folded(layer):
            return _details("group", title, _listed(operations))
        return _details("group", title, "".join(map(self.step, operations)), is_open=True)

    def step(self, operation: Operation) -> str:
        """One operation or weight: its equation, and folded below it the numbers."""
        shape = f"[{len(operation.value)}][{len(operation.value[0])}]"
        said = f"= {operation.equation}" if operation.equation else ""
        name = f"{operation.name} " if said else ""
        title = (
            f"<span><b>{escape(operation.symbol)}</b> {escape(name)}"
            f"<code>{escape(said)}</code> <i>{shape}</i></span>"
        )
        if operation.gradient is not None:
            back = f"∂{operation.symbol} = {_terms(operation.terms)}"
            title += f'<code class="back">{escape(back)}</code>'
        title = f'<span class="line">{title}</span>'
        if operation.head is not None and operation.head >= HEADS:
            return _details("", title, f'<div class="numbers">{_sizes(operation)}</div>')
        is_open = operation is self.walk.operations[0]  # so that one sees what the others have
        return _details("", title, self._numbers(operation), is_open)

    def _numbers(self, operation: Operation) -> str:
        rows = self._rows(operation)
        tables = [self._table(operation, operation.value, rows, operation.symbol)]
        if operation.gradient is not None:
            table = self._table(operation, operation.gradient, rows, f"∂{operation.symbol}")
            tables.append(table.replace("<div>", '<div class="back">', 1))
        return f'<div class="numbers">{"".join(tables)}</div>'

    def _rows(self, operation: Operation) -> list[int]:
        """The rows that are shown: of a large weight, the first that have a gradient."""
        grid = operation.gradient or operation.value
        every = list(range(len(grid)))
        if len(grid) > HIGHEST:
            every = [i for i in every if any(grid[i])] or every
        return every[:HIGHEST]

    def _table(self, operation: Operation, grid: Grid, rows: Iterable[int], symbol: str) -> str:
        """The numbers of an operation, or their gradient."""
        width = len(grid[0])
        names, columns = self._names(operation, len(grid)), [str(i) for i in range(width)]
        if operation.name.startswith(("scores", "attention weights")):
            columns = self.tokens
        elif width == len(self.vocabulary) and operation in self.ends:
            columns = self.vocabulary
        more = f"<th>… {width - WIDEST} more</th>" if width > WIDEST else ""
        head = "".join(f"<th>{escape(name)}</th>" for name in columns[:WIDEST])
        decimals = _decimals(grid)
        body = "".join(
            f"<tr><th>{escape(names[i])}</th>"
            + "".join(f"<td>{_number(x, decimals)}</td>" for x in grid[i][:WIDEST])
            + "</tr>"
            for i in rows
        )
        return f"<div><table><tr><th>{escape(symbol)}</th>{head}{more}</tr>{body}</table></div>"

    def _names(self, operation: Operation, count: int) -> Sequence[str]:
        """What the rows are called."""
        if operation.equation and count == len(self.tokens):
            return self.tokens
        if not operation.equation and count == len(self.vocabulary):
            return self.vocabulary
        return [str(i) for i in range(count)]


def _listed(operations: Sequence[Operation]) -> str:
    """Operations without their numbers."""
    rows = [
        f"<tr><td><b>{escape(o.symbol)}</b></td><td>{escape(o.name)}</td>"
        f"<td><code>= {escape(o.equation)}</code></td><td>{_sizes(o)}</td></tr>"
        for o in operations
    ]
    return f'<div class="listed"><table>{"".join(rows)}</table></div>'


def _sizes(operation: Operation) -> str:
    """The root mean squares of an operation's numbers and of their gradient."""
    gradient = operation.gradient
    more = "" if gradient is None else f", of its gradient {_size(gradient):.3g}"
    return f"root mean square {_size(operation.value):.3g}{more}"


def _size(grid: Grid) -> float:
    numbers = [x for row in grid for x in row if math.isfinite(x)]
    return math.sqrt(math.fsum(x * x for x in numbers) / max(1, len(numbers)))


def _terms(terms: Sequence[str]) -> str:
    """The sum that a gradient is; the loss has a gradient of 1."""
    more = f" + {len(terms) - TERMS} more" if len(terms) > TERMS else ""
    return (" + ".join(terms[:TERMS]) or "1") + more


def _decimals(grid: Grid) -> int:
    """As many as leave four digits of the largest number."""
    most = max((abs(x) for row in grid for x in row if math.isfinite(x)), default=0)
    return max(3 - math.floor(math.log10(most)), 0) if most else 0


def _number(x: float, decimals: int) -> str:
    if not math.isfinite(x):
        return "nan" if math.isnan(x) else "-∞" if x < 0 else "∞"
    return (f"{x:.{decimals}f}" if decimals < 9 else f"{x:.3e}") if x else "0"


def _layer(weight: Operation) -> int | None:
    """The layer of a weight, by its name `layer<i>.…`."""
    number = weight.name.partition(".")[0].removeprefix("layer")
    return int(number) if number.isdecimal() else None


def _details(kind: str, title: str, inner: str, is_open: bool = False) -> str:
    """Something that is folded below its title."""
    opened = " open" if is_open else ""
    return f'<details class="{kind}"{opened}><summary>{title}</summary>{inner}</details>'

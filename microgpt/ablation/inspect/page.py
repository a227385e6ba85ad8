"""The page of one look, or of several side by side: one HTML file that needs no other."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from microgpt.ablation.inspect.draw import BLUE, RED, bars, heat, lines, scatter, shown
from microgpt.ablation.inspect.look import Look
from microgpt.ablation.inspect.steps import STYLE as STYLE_OF_STEPS
from microgpt.ablation.inspect.steps import steps
from microgpt.ablation.inspect.watching import Grid

TOP = 5  # next characters shown
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:24px;color:#222;background:#fff}
h1{font-size:22px;margin:0 0 4px}
h2{font-size:17px;margin:28px 0 2px;border-top:1px solid #ddd;padding-top:14px}
h3{font-size:13px;margin:10px 0 2px;font-weight:600}
p{margin:2px 0 8px;color:#555;max-width:62em}
.row{display:flex;gap:36px;flex-wrap:wrap}
.row>div{flex:1 1 0;min-width:min(548px,100%)}
.heads{display:flex;gap:18px;flex-wrap:wrap}
table{border-collapse:collapse}
td,th{padding:2px 9px 2px 0;text-align:left;font-variant-numeric:tabular-nums}
td.c{font:15px/1.2 ui-monospace,monospace}
.bar{display:inline-block;height:9px;vertical-align:middle}
.likely{margin-right:12px}
svg text,code{font-family:ui-monospace,monospace}
"""


def page(looks: Sequence[Look]) -> str:
    """The page."""
    title = " and ".join(
        f"Inside {look.run}" if not i else look.run for i, look in enumerate(looks)
    )
    body = [f"<h1>{escape(title)}</h1>"]
    body.append(_row([_head(look) for look in looks]))
    for heading, note, drawn in SECTIONS:
        cells = [drawn(look, looks) for look in looks]
        if any(cells):
            body.append(f"<h2>{heading}</h2><p>{note}</p>{_row(cells)}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}{STYLE_OF_STEPS}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _row(cells: Sequence[str]) -> str:
    return '<div class="row">' + "".join(f"<div>{cell}</div>" for cell in cells) + "</div>"


def _head(look: Look) -> str:
    loss = "" if look.loss is None else f"; {look.loss:.4f} nats per character of this text"
    return (
        f"<p><b>{escape(look.name)}</b><br>step {look.step}, {look.n_params:,} parameters{loss}</p>"
    )


def _next(look: Look, all_looks: Sequence[Look]) -> str:
    """A row for each position: what follows, its probability and loss, and the most likely characters."""
    rows = [
        "<tr><th>seen</th><th>next</th><th>probability</th><th>loss</th><th>most likely</th></tr>"
    ]
    for seen, target, loss, row in zip(look.seen, look.targets, look.losses, look.probabilities):
        p = None if loss is None else math.exp(-loss)
        said = "" if p is None else f"{_bar(p, BLUE)} {p:.3f}"
        cost = "" if loss is None else f"{_bar(min(loss / 8, 1), RED)} {loss:.3f}"
        best = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:TOP]
        likely = "".join(map(_likely, [look.vocabulary[i] for i in best], [row[i] for i in best]))
        rows.append(
            f'<tr><td class="c">{escape(shown(seen))}</td><td class="c">{escape(shown(target or ""))}</td>'
            f"<td>{said}</td><td>{cost}</td><td>{likely}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _likely(character: str, p: float) -> str:
    return f'<span class="likely"><code>{escape(shown(character))}</code> {p:.2f}</span>'


def _bar(share: float, colour: str) -> str:
    return f'<span class="bar" style="width:{70 * share:.0f}px;background:{colour}"></span>'


def _attention(look: Look, all_looks: Sequence[Look]) -> str:
    parts = []
    for layer, heads in enumerate(look.attention):
        drawn = [
            f"<div><h3>layer {layer}, head {h}</h3>{heat(grid, look.seen, look.seen, 'of attention')}</div>"
            for h, grid in enumerate(heads)
        ]
        parts.append(f'<div class="heads">{"".join(drawn)}</div>')
    return "".join(parts)


def _positions(look: Look, all_looks: Sequence[Look]) -> str:
    if not look.positions:
        return ""
    names = [str(t) for t in range(len(look.positions))]
    short = [name if t % 5 == 0 else "" for t, name in enumerate(names)]
    return heat(_cosines(look.positions), short, short, "cosine", 10)


def _tokens(look: Look, all_looks: Sequence[Look]) -> str:
    return scatter(_plane(look.embeddings), look.vocabulary) if len(look.embeddings) > 2 else ""


def _activations(look: Look, all_looks: Sequence[Look]) -> str:
    most = _most(x for each in all_looks for _, row in each.activations for x in row)
    grid = [[x / most for x in row] for _, row in look.activations]
    names = [f"{name} (max {max(row):.2f})" for name, row in look.activations]
    return heat(grid, names, look.seen, "of the largest") if grid else ""


def _gradients(look: Look, all_looks: Sequence[Look]) -> str:
    most = _most(change for each in all_looks for _, _, change in each.gradients)
    rows = [(name, change) for name, _, change in look.gradients]
    return bars(rows, most, RED) if any(change for _, change in rows) else ""


def _weights(look: Look, all_looks: Sequence[Look]) -> str:
    most = _most(size for each in all_looks for _, size, _ in each.gradients)
    return bars([(name, size) for name, size, _ in look.gradients], most)


def _most(numbers: Iterable[float]) -> float:
    return max(numbers, default=0) or 1


def _samples(look: Look, all_looks: Sequence[Look]) -> str:
    return "<br>".join(f"<code>{escape(text) or '·'}</code>" for text in look.samples)


def _curve(look: Look, all_looks: Sequence[Look]) -> str:
    points = [point for each in all_looks for curve in each.curve.values() for point in curve]
    return lines(look.curve, points)


def _steps(look: Look, all_looks: Sequence[Look]) -> str:
    return steps(look.walk, look.seen, look.vocabulary)


# A section draws a look, on the scale that all looks of the page have.
SECTIONS: tuple[tuple[str, str, Callable[[Look, Sequence[Look]], str]], ...] = (
    (
        "The next character",
        "At each position: the character seen last, the one that follows, its probability, its loss in "
        "nats (minus the logarithm of the probability), and what the model finds most likely.",
        _next,
    ),
    (
        "Step by step",
        "What the model computes from the first tokens to their mean loss, one operation a line: number, "
        "name, equation and shape [rows][columns]. In red the backward pass, from the last line up to the "
        "first: ∂#n, the gradient of the loss with respect to #n, and below the operations that of each "
        "weight. A line opens to the numbers. A dot is a product of matrices; * and / go number by number; "
        "sum, mean and max go along a row.",
        _steps,
    ),
    (
        "Attention",
        "A row is a position that looks back, a column one that is looked at; the darker, the more. "
        "Rows sum to 1.",
        _attention,
    ),
    (
        "Embeddings by position",
        "The cosine of each pair of position embeddings: blue where they point the same way, "
        "red where opposite.",
        _positions,
    ),
    (
        "Embeddings of characters",
        "On the plane in which they differ most (their first two principal components). "
        "■ begins and ends documents.",
        _tokens,
    ),
    (
        "Activations",
        "The root mean square of what each weight makes at each position, in the order of "
        "the forward pass.",
        _activations,
    ),
    (
        "Gradients",
        "The norm of the gradient of this text's mean loss with respect to each weight.",
        _gradients,
    ),
    ("Weights", "The norm of each weight.", _weights),
    ("Learning", "The losses that were logged, in nats per predicted character.", _curve),
    ("Samples", "Documents of the model, at temperature 0.8.", _samples),
)


def _cosines(rows: Grid) -> Grid:
    sizes = [math.hypot(*row) or 1.0 for row in rows]
    return [
        [sum(x * y for x, y in zip(a, b)) / (m * n) for b, n in zip(rows, sizes)]
        for a, m in zip(rows, sizes)
    ]


def _plane(rows: Grid) -> list[tuple[float, float]]:
    """The first two principal components; the signs make the largest entry of each positive."""
    import numpy as np

    centred = np.array(rows) - np.mean(rows, axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found = centred @ axes[:2].T
    signs = np.sign(found[np.argmax(np.abs(found), axis=0), range(found.shape[1])])
    return [(float(x), float(y)) for x, y in _pairs(found * signs)]


def _pairs(points: "Sequence[Sequence[float]]") -> Iterator[tuple[float, float]]:
    for point in points:
        yield point[0], (point[1] if len(point) > 1 else 0.0)

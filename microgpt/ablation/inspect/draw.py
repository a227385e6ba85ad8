"""Pictures of numbers as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeAlias

from microgpt.ablation.inspect.watching import Grid

Curve: TypeAlias = Sequence[tuple[int, float]]  # (step, value)

BLUE, RED, GREY = "#1f5fa8", "#b3402a", "#888"
WIDTH, HEIGHT = 440, 180  # of a plot


def shown(character: str) -> str:
    """A character that can be seen."""
    return {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(character, character)


def heat(grid: Grid, rows: Sequence[str], columns: Sequence[str], unit: str, cell: int = 13) -> str:
    """A grid of numbers from -1 to 1 as colours, blue above 0 and red below; a cell tells its number."""
    left, top = 8 + 8 * max(map(len, rows), default=1), 18
    width, height = left + cell * len(columns), top + cell * len(rows)
    parts = [
        _text(left + cell * (j + 0.5), top - 5, shown(name), "middle")
        for j, name in enumerate(columns)
    ]
    for i, (name, row) in enumerate(zip(rows, grid)):
        parts.append(_text(left - 4, top + cell * (i + 0.75), shown(name), "end"))
        for j, value in enumerate(row):
            if abs(value) < 0.004:
                continue
            colour = BLUE if value > 0 else RED
            title = f"{shown(name)}, {shown(columns[j])}: {value:.3f} {unit}"
            parts.append(
                f'<rect x="{left + cell * j}" y="{top + cell * i}" width="{cell - 1}" '
                f'height="{cell - 1}" fill="{colour}" fill-opacity="{min(1, abs(value)):.3f}">'
                f"<title>{escape(title)}</title></rect>"
            )
    return _svg(width + 4, height + 4, parts)


def bars(rows: Sequence[tuple[str, float]], most: float, colour: str = BLUE) -> str:
    """Named numbers from 0 to `most` as bars."""
    left, cell = 150, 16
    parts = []
    for i, (name, value) in enumerate(rows):
        y, length = cell * i, 200 * value / most
        parts.append(_text(left - 6, y + 12, name, "end"))
        parts.append(
            f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{cell - 5}" fill="{colour}"/>'
        )
        parts.append(_text(left + length + 5, y + 12, f"{value:.3g}", "start"))
    return _svg(WIDTH, cell * len(rows) + 4, parts)


def scatter(points: Sequence[tuple[float, float]], names: Sequence[str]) -> str:
    """Named points of a plane."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    parts = [
        _text(
            _place(x, xs, WIDTH),
            HEIGHT * 1.6 - _place(y, ys, HEIGHT * 1.6),
            shown(name),
            "middle",
            13,
        )
        for (x, y), name in zip(points, names)
    ]
    return _svg(WIDTH, HEIGHT * 1.6, parts)


def lines(curves: Mapping[str, Curve], within: Curve) -> str:
    """Curves over steps, each with its last value; the axes hold all points of `within`."""
    if not any(curves.values()):
        return "<p>no logged losses</p>"
    xs, ys = [float(x) for x, _ in within], [y for _, y in within]
    parts = [
        _text(2, 12, f"{max(ys):.2f}", "start"),
        _text(2, HEIGHT - 4, f"{min(ys):.2f}", "start"),
        _text(WIDTH - 4, HEIGHT - 4, f"step {max(xs):.0f}", "end"),
    ]
    for (name, curve), colour in zip(curves.items(), (GREY, BLUE)):
        if not curve:
            continue
        where = [(_place(x, xs, WIDTH), HEIGHT - _place(y, ys, HEIGHT)) for x, y in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in where[-1:]
        ]
        parts.append(
            _text(
                WIDTH - 4,
                12 + 14 * (colour == BLUE),
                f"{name} {curve[-1][1]:.4f}",
                "end",
                11,
                colour,
            )
        )
    return _svg(WIDTH, HEIGHT, parts)


def _place(value: float, values: Sequence[float], size: float) -> float:
    """Where a value stands on an axis, with a margin."""
    low, high = min(values), max(values)
    share = (value - low) / (high - low) if high > low and math.isfinite(high - low) else 0.5
    return 30 + (size - 60) * share


def _text(
    x: float, y: float, text: str, anchor: str, size: int = 11, colour: str = "currentColor"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f"<svg {size}>{''.join(parts)}</svg>"

"""Renders a lock's tables as Markdown. They depend on the lock alone, so that `verify` can compare them."""

from collections.abc import Mapping, Sequence
from typing import Any

LOSSES = (
    *("arm", "runs", "held-out loss", "sd", "95 % interval", "bits/char", "95 % interval"),
    *("parameters", "tokens"),
)
DIFFERENCES = ("arm", "difference", "95 %, together", "p (Bonferroni)", "could show", "verdict")


def render_table(lock: Mapping[str, Any]) -> str:
    """The tables of the arms: losses and costs, and differences from the baseline."""
    rows = lock["table"]
    losses = markdown_table([LOSSES, *map(_losses, rows)])
    return f"{losses}\n{markdown_table([DIFFERENCES, *map(_differences, rows)])}"


def _losses(row: Mapping[str, Any]) -> list[str]:
    loss, bpc = row["loss"] or {}, row["bpc"] or {}
    figures = [figure(loss.get("mean")), figure(loss.get("sd")), interval(loss)]
    figures += [figure(bpc.get("mean")), interval(bpc)]
    return [row["arm"], runs_of(row), *figures, count(row["n_params"]), count(row["tokens"])]


def _differences(row: Mapping[str, Any]) -> list[str]:
    difference = row["difference"] or {}
    return [
        row["arm"],
        signed(difference.get("mean")),
        interval(difference, signed),
        p_of(difference.get("p")),
        figure(difference.get("detectable")),
        verdict_of(row),
    ]


def verdict_of(row: Mapping[str, Any]) -> str:
    """The verdict on an arm, or why it is not ranked."""
    return str(row["word"]) + (f": {row['flag']}" if row["flag"] else "")


def runs_of(row: Mapping[str, Any]) -> str:
    """`5`, or `3 of 5`."""
    whole = row["finished"] + row["unfinished"]
    return str(whole) if not row["unfinished"] else f"{row['finished']} of {whole}"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row has the headings. Bars in cells are escaped."""
    head, *body = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body]) + "\n"


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def interval(of: Mapping[str, Any], shown: Any = figure) -> str:
    """`[2.2210, 2.2301]`."""
    return "" if of.get("low") is None else f"[{shown(of['low'])}, {shown(of['high'])}]"


def p_of(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"

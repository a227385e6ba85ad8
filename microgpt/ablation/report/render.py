"""Renders numbers of a lock as text, and its tables as Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from microgpt.ablation.statistics.verdict import Verdict

Lock: TypeAlias = Mapping[str, Any]
Row: TypeAlias = Mapping[str, Any]  # of a lock's table
PARTS = {"val/loss": "validation", "test/loss": "test"}  # which documents a figure is of


def render_table(lock: Lock) -> str:
    """The table of the arms in Markdown."""
    return markdown_table(arms(lock))


def arms(lock: Lock) -> list[list[str]]:
    """A row for each arm: loss, difference from the baseline with its intervals, verdict."""
    both = lock["crossed"] is not None
    heads = ["arm", "runs", "held-out loss", "95 % interval", "difference", "95 % over seeds"]
    heads += ["95 % over seeds and documents"] * both + ["verdict"]
    return [heads, *(_arm(lock, row, both) for row in lock["table"])]


def _arm(lock: Lock, row: Row, both: bool) -> list[str]:
    loss, difference = row["loss"] or {}, row["difference"] or {}
    cells = [row["arm"], runs_of(row), figure(loss.get("mean")), interval(loss)]
    cells += [signed(difference.get("mean")), interval(difference, signed)]
    return cells + [interval(of_documents(lock, row), signed)] * both + [verdict_of(row)]


def of_documents(lock: Lock, row: Row) -> Mapping[str, Any]:
    """The difference of an arm over seeds and documents; empty without one."""
    found: Mapping[str, Any] = (lock["crossed"] or {}).get("arms", {}).get(row["arm"], {})
    return found


def details(lock: Lock) -> str:
    """What else is known of losses and differences."""
    tested = "stopped" not in lock  # by a number of seeds that was fixed beforehand
    heads = ["arm", "sd", "bits per character", "95 % interval", *["p", "could show"] * tested]
    return markdown_table([heads, *(_details(row, tested) for row in lock["table"])])


def _details(row: Row, tested: bool) -> list[str]:
    loss, bpc, difference = row["loss"] or {}, row["bpc"] or {}, row["difference"] or {}
    cells = [row["arm"], figure(loss.get("sd")), figure(bpc.get("mean")), interval(bpc)]
    tests = [p_of(difference.get("p")), figure(difference.get("detectable"))]
    return cells + tests * tested


def costs(lock: Lock, multiplier: Callable[[Lock, str], str]) -> str:
    """What each arm takes, without clocks."""
    rows = [("arm", "parameters", "training tokens", "compute multiplier, in steps")]
    for row in lock["table"]:
        numbers = count(row["n_params"]), count(row["tokens"])
        rows.append((row["arm"], *numbers, multiplier(lock, row["arm"])))
    return markdown_table(rows)


def grids(found: Iterable[Mapping[str, Any]], judge: str) -> str:
    """The best learning rate of each arm, by the metric that judges."""
    loss = f"its {PARTS[judge]} loss"
    heads = ("arm", "rates tried", "best", loss, "95 % interval", "remark")
    return markdown_table([heads, *map(_grid, found)])


def _grid(grid: Mapping[str, Any]) -> tuple[str, ...]:
    best = next((p["loss"] for p in grid["points"] if p["rate"] == grid["best"]), None) or {}
    tried = " ".join(
        f"{point['rate']:g}" + " (no result)" * (point["loss"] is None) for point in grid["points"]
    )
    rate = "" if grid["best"] is None else f"{grid['best']:g}"
    return grid["arm"], tried, rate, figure(best.get("mean")), interval(best), grid["flag"] or ""


def local_exponents(fit: Mapping[str, Any]) -> str:
    """The exponents of a power law between neighbouring sizes."""
    rows = [("from", "to", "exponent", "95 % interval")]
    rows += [(o["from"], o["to"], figure(o["mean"]), interval(o)) for o in fit["local"]]
    return markdown_table(rows)


def samples(lock: Lock) -> str:
    """Some samples of each arm, and the shares that are new."""
    rows = [("arm", "first samples", "drawn", "novel", "training part", "held out")]
    for arm, found in lock["samples"].items():
        shown = ", ".join(
            f"`{text}`" if text else "(empty)" for text in map(_plain, found["shown"])
        )
        kinds = [found[kind] for kind in ("novel", "memorised", "held_out")]
        rows.append((arm, shown, count(found["drawn"]), *(share(k, found["drawn"]) for k in kinds)))
    return markdown_table(rows)


def _plain(text: str) -> str:
    """A sample in one line of at most 60 characters, for inline code."""
    line = text.replace("\n", "⏎").replace("`", "'")
    return line if len(line) <= 60 else f"{line[:59]}…"


def times(found: Iterable[Mapping[str, Any]]) -> str:
    """Clock times."""
    rows = [("arm", "seconds a run (median)", "tokens a second (median)")]
    rows += [(t["arm"], f"{t['seconds']:,.1f}", f"{t['rate']:,.0f}") for t in found]
    return markdown_table(rows)


def verdict_of(row: Row) -> str:
    """The verdict on an arm, or why it is not ranked."""
    return str(row["word"]) + (f": {row['flag']}" if row["flag"] else "")


def is_known(row: Row) -> bool:
    """Whether an arm is known to be better or worse than the baseline."""
    return row["word"] in {word for word in Verdict if word.direction} | {"better", "worse"}


def looks(lock: Lock) -> str:
    """What each look at a sequence of seeds said."""
    rows = [("seeds", "answer")]
    rows += [(str(look["seeds"]), look["answer"]) for look in lock["stopped"]["looks"]]
    return markdown_table(rows)


def runs_of(row: Row) -> str:
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


def all_of(number: int) -> str:
    """`both`, or `all 3`."""
    return "both" if number == 2 else f"all {number}"


def share(part: int | None, whole: int) -> str:
    return "" if part is None else f"{100 * part / whole:.0f} %"

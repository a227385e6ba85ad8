"""The figures of a report, as PNG and SVG of the same bytes for the same figures.

Colours: Okabe & Ito (2008), "Color Universal Design", which all common kinds of colour vision tell
apart; lines differ in markers, too. 8 inches at 100 dots are a README's width.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.stats import summary
from microgpt.ablation.store import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = "osD^vPX"
GREY = "#666666"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "microgpt",  # its element ids would be random
}
NATS = "held-out loss, nats per token"


def draw(sweep: Sweep, lock: Mapping[str, Any], folder: Path) -> None:
    """Every figure that applies, in `folder`."""
    with figure(folder, "arms", 1.4 + 0.42 * len(lock["table"]), 2) as (left, right):
        arms(left, right, lock)
    with figure(folder, "curves") as (axes,):
        curves(axes, sweep)
    grids = lock["rates"] or (lock["tuning"] or {}).get("grids")
    if grids:
        with figure(folder, "rates") as (axes,):
            rates(axes, grids)
    if lock["fit"]:
        with figure(folder, "fit") as (axes,):
            fit(axes, lock)


@contextmanager
def figure(
    folder: Path, name: str, height: float = 4.6, panels: int = 1
) -> "Iterator[Sequence[Axes]]":
    """One picture with panels side by side, written as PNG and SVG when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(8, height), layout="constrained")
        FigureCanvasAgg(picture)  # no display, whatever the machine has
        yield picture.subplots(1, panels, sharey=True, squeeze=False)[0]
        picture.savefig(folder / f"{name}.png", dpi=100, metadata={"Software": None})
        picture.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def arms(left: "Axes", right: "Axes", lock: Mapping[str, Any]) -> None:
    """Each arm's mean with its interval; beside it, the paired difference from the baseline."""
    shown = [row for row in lock["table"] if row["loss"]]
    for place, row in enumerate(shown):
        is_base = row["arm"] == lock["baseline"]
        colour = COLOURS[1] if is_base else GREY if row["flag"] else COLOURS[0]
        sides = [(left, row["loss"], "{:.4f}"), (right, row["difference"], "{:+.4f}")]
        for axes, found, digits in sides:
            if found:
                mean, bars = found["mean"], _error([found])
                axes.errorbar(mean, place, xerr=bars, fmt="s" if is_base else "o", **_bars(colour))
                above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
                axes.annotate(digits.format(mean), (mean, place), fontsize=9, **above)
    left.set_yticks(range(len(shown)), [row["arm"] for row in shown])
    left.set_ylim(len(shown) - 0.5, -0.7)
    left.set_xlabel(NATS)
    matters = (lock["ablation"] or {}).get("matters") or 0
    right.axvspan(-matters, matters, color=GREY, alpha=0.15, linewidth=0)
    right.axvline(0, color=COLOURS[1], linestyle="--", linewidth=1)
    right.set_xlabel(f"difference from {lock['baseline']}, paired")
    right.set_title(f"grey: less than {matters:g}, what matters" if matters else "", fontsize=9)
    left.set_title("means over seeds, 95 % intervals", fontsize=9)


def curves(axes: "Axes", sweep: Sweep) -> None:
    """Held-out loss over steps: means over seeds with 95 % bands."""
    lowest, highest = [], []
    for i, arm in enumerate(arm for arm in sweep.arms if arm.finished):
        by_step: dict[int, list[float]] = {}
        for run in arm.finished:
            for row in run.rows:
                if "val/loss" in row:
                    by_step.setdefault(int(row["step"]), []).append(row["val/loss"])
        whole = {s: v for s, v in sorted(by_step.items()) if len(v) == len(arm.finished)}
        means = [summary(values) for values in whole.values()]
        colour, marker = look(i)
        axes.plot(
            list(whole),
            [m.mean for m in means],
            color=colour,
            marker=marker,
            markersize=4,
            label=arm.name,
        )
        if means[0].low is not None:
            axes.fill_between(
                list(whole),
                [m.low for m in means],  # type: ignore[arg-type]
                [m.high for m in means],  # type: ignore[arg-type]
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
        lowest.append(min(m.mean for m in means))
        highest.append(means[min(1, len(means) - 1)].mean)
    axes.set(xlabel="step", ylabel=NATS)
    axes.legend()


def rates(axes: "Axes", grids: Sequence[Mapping[str, Any]]) -> None:
    """Loss against learning rate, a line an arm; a ring marks the best."""
    for i, grid in enumerate(grids):
        points = [point for point in grid["points"] if point["loss"]]
        if not points:
            continue
        colour, marker = look(i)
        x, losses = [p["rate"] for p in points], [p["loss"] for p in points]
        y = [loss["mean"] for loss in losses]
        label = grid["arm"] if len(grids) > 1 else None
        axes.errorbar(x, y, yerr=_error(losses), fmt=f"{marker}-", label=label, **_bars(colour))
        best = [(at, loss) for at, loss in zip(x, y) if at == grid["best"]]
        axes.plot(*zip(*best), "o", markersize=14, fillstyle="none", color=colour) if best else None
    axes.set(xscale="log", xlabel="peak learning rate", ylabel=NATS)
    ticks = sorted({p["rate"] for grid in grids for p in grid["points"]})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    if len(grids) > 1:
        axes.legend()


def fit(axes: "Axes", lock: Mapping[str, Any]) -> None:
    """Loss against parameters on logarithmic axes, and the law with its 95 % band."""
    law = lock["fit"]
    rows = {row["arm"]: row for row in lock["table"]}
    points = [rows[name] for name in law["arms"]]
    x, y = [row["n_params"] for row in points], [row["loss"]["mean"] for row in points]
    sizes = [point["size"] for point in law["line"]]
    exponent = law["exponent"]
    label = f"power law, exponent {exponent['mean']:.4f} [{exponent['low']:.4f}, {exponent['high']:.4f}]"
    axes.plot(sizes, [p["mean"] for p in law["line"]], color=COLOURS[1], label=label)
    low, high = ([p[end] for p in law["line"]] for end in ("low", "high"))
    axes.fill_between(sizes, low, high, color=COLOURS[1], alpha=0.15, linewidth=0)
    bars = _error([row["loss"] for row in points])
    axes.errorbar(
        x, y, yerr=bars, fmt="o", label="mean, 95 % interval over seeds", **_bars(COLOURS[0])
    )
    for row, size, loss in zip(points, x, y):
        axes.annotate(
            row["arm"].split()[0], (size, loss), (6, 6), textcoords="offset points", fontsize=9
        )
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel=NATS)
    axes.set_xticks(x, [f"{size:,}" for size in x])
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.legend()


def look(i: int) -> tuple[str, str]:
    """Colour and marker of the i-th line."""
    return COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]


def _error(losses: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Lengths below and above the means; 0 where one seed has no interval."""
    low = [o["mean"] - o["low"] if o["low"] is not None else 0.0 for o in losses]
    high = [o["high"] - o["mean"] if o["high"] is not None else 0.0 for o in losses]
    return [low, high]


def _bars(colour: str) -> dict[str, Any]:
    return {"color": colour, "capsize": 4, "markersize": 6, "zorder": 2}


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()

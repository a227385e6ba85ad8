"""The figures of a report, as PNG and SVG files that are reproducible byte for byte.

Colours: Okabe & Ito (2008), "Color Universal Design", distinguishable with all common kinds of colour
vision; lines also differ in markers. 8 inches at 100 dpi are the width of a README.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from microgpt.ablation.report.render import PARTS, of_documents

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = "osD^vPX"
GREY, BLACK = "#666666", "#000000"
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "microgpt",  # without it, element ids are random
}
LETTER = 0.09  # inches of one in the name of an arm, on average
LINE = 0.21  # inches of one in a legend
FAR = 3  # times the usual fall of a curve: one that begins above that is cut
CURVES = len(COLOURS)  # in one figure: the legend of many leaves no place for them
NATS = "held-out loss, nats per token"


def draw(lock: Mapping[str, Any], folder: Path) -> None:
    """Draws every figure that applies, in `folder`."""
    rows = [row for row in lock["table"] if row["loss"] and _is_shown(row["arm"], lock)]
    widest = max(len(row["arm"]) for row in rows)
    size = max(8, 5.4 + LETTER * widest), 1.9 + 0.5 * len(rows)
    with figure(folder, "arms", size, 2) as (left, right):
        arms(left, right, lock, rows)
    if lock["curves"]:
        with figure(folder, "curves") as (axes,):
            shown = [name for name in lock["curves"] if _is_shown(name, lock)]
            drawn = farthest(shown, lock)
            curves(axes, {name: lock["curves"][name] for name in drawn})
            if len(drawn) < len(shown):
                axes.set_xlabel("step; the baseline, and the arms that end farthest from it")
    tuning = lock["tuning"] or {}
    grids, judge = lock["rates"], lock["figure"]
    if not grids:
        grids, judge = tuning.get("grids"), tuning.get("figure")
    if grids:
        longer = max(0, len(grids) - CURVES)  # a longer legend
        with figure(folder, "rates", (8, 4.6 + LINE * longer)) as (axes,):
            rates(axes, grids, PARTS[judge])
    if lock["fit"]:
        with figure(folder, "fit") as (axes,):
            fit(axes, lock)


@contextmanager
def figure(
    folder: Path, name: str, size: tuple[float, float] = (8, 4.6), panels: int = 1
) -> "Iterator[Sequence[Axes]]":
    """A figure with panels in a row, written as PNG and SVG when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(picture)  # needs no display
        yield picture.subplots(1, panels, sharey=True, squeeze=False)[0]
        picture.savefig(folder / f"{name}.png", dpi=100, metadata={"Software": None})
        picture.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def arms(
    left: "Axes", right: "Axes", lock: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]
) -> None:
    """Left, every run and the means; right, paired differences from the baseline, with both intervals."""
    losses = {row["arm"]: losses_of(lock, row["arm"]) for row in shown}
    base = losses_of(lock, lock["baseline"])
    matters = (lock["ablation"] or {}).get("matters") or 0
    for place, row in enumerate(shown):
        own, is_base = losses[row["arm"]], row["arm"] == lock["baseline"]
        colour = COLOURS[1] if is_base else GREY if row["flag"] else COLOURS[0]
        _dots(left, own.values(), place, colour)
        _mean(left, row["loss"], place, colour, "{:.4f}")
        if row["difference"]:
            _dots(right, [own[s] - base[s] for s in own.keys() & base.keys()], place, colour)
            _mean(right, row["difference"], place, colour, "{:+.4f}")
            if wide := of_documents(lock, row):
                bars = _error([wide])
                right.errorbar(wide["mean"], place + 0.24, xerr=bars, fmt="none", **_bars(BLACK))
    left.set_yticks(range(len(shown)), [row["arm"] for row in shown])
    left.set_ylim(len(shown) - 0.5, -0.7)
    left.set_xlabel("held-out loss\nnats per token, lower is better")
    apart = "; grey: not ranked" * any(row["flag"] for row in shown)
    best = "\nof each setting the arm at its best rate" * (len(lock["rates"] or []) > 1)
    left.set_title(f"dots: runs; bars: 95 % of the mean{apart}{best}", fontsize=9)
    right.axvspan(-matters, matters, color=GREY, alpha=0.15, linewidth=0)
    right.axvline(0, color=COLOURS[1], linestyle="--", linewidth=1)
    right.set_xlabel("difference from the baseline\nleft: better, right: worse")
    bounded = [row for row in shown if (row["difference"] or {}).get("low") is not None]
    titles = ["bars: 95 % over seeds, together"] * bool(bounded)
    titles += ["black: over seeds and documents"] * (lock["crossed"] is not None)
    titles += [f"grey: less than {matters:g}, what matters"] * bool(matters)
    right.set_title("\n".join(titles), fontsize=9)
    for axes in (left, right):
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=5)  # more labels would meet


def losses_of(lock: Mapping[str, Any], arm: str) -> dict[int, float]:
    """seed -> held-out loss of each finished run of an arm."""
    metric = lock["figure"]
    runs = [run for run in lock["runs"] if run["arm"] == arm and run["status"] == "finished"]
    return {run["seed"]: run["metrics"][metric] for run in runs}


def _dots(axes: "Axes", values: Iterable[float], place: float, colour: str) -> None:
    """A dot for each seed, in a row below the mean."""
    x = sorted(values)
    axes.plot(x, [place + 0.12] * len(x), ".", color=colour, alpha=0.45, markersize=6, zorder=1)


def _mean(axes: "Axes", found: Mapping[str, Any], place: float, colour: str, digits: str) -> None:
    """A mean with its interval, and its number above, which the line of the baseline may cross."""
    from matplotlib.patheffects import withStroke

    mean = found["mean"]
    axes.errorbar(mean, place, xerr=_error([found]), fmt="o", **_bars(colour))
    above: Any = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
    above["path_effects"] = [withStroke(linewidth=2.5, foreground="white")]
    axes.annotate(digits.format(mean), (mean, place), fontsize=9, **above)


def curves(axes: "Axes", shown: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Held-out loss over steps: means over the finished seeds with 95 % bands."""
    for i, (name, points) in enumerate(shown.items()):
        colour, marker = look(i)
        steps, y = [point["step"] for point in points], [point["mean"] for point in points]
        axes.plot(steps, y, color=colour, marker=marker, markersize=4, label=name)
        low, high = zip(*((p["low"] or p["mean"], p["high"] or p["mean"]) for p in points))
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="step", ylabel="validation loss, nats per token")
    _cut(axes, shown)
    legend(axes)


def _cut(axes: "Axes", shown: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Leaves the beginning of a curve out, where it would press all others together; and says so."""
    means = {name: [point["mean"] for point in points] for name, points in shown.items()}
    lowest = min(map(min, means.values()))
    top = lowest + FAR * (median(own[0] for own in means.values()) - lowest)
    over = [name for name, own in means.items() if max(own) > top > lowest]
    if over and all(_comes_down(means[name], top) for name in over):
        kept = max(mean for own in means.values() for mean in own if mean <= top)
        axes.set_ylim(lowest - 0.05 * (kept - lowest), kept + 0.15 * (kept - lowest))
        told = f"beginning not shown, above {axes.get_ylim()[1]:.2f}: {', '.join(over)}"
        axes.set_title(told, fontsize=9, loc="right")


def _comes_down(means: Sequence[float], top: float) -> bool:
    """Whether only the beginning of a curve is above `top`: where it rises is not left out."""
    beyond = [mean > top for mean in means]
    return not beyond[-1] and beyond == sorted(beyond, reverse=True)


def farthest(names: Sequence[str], lock: Mapping[str, Any]) -> list[str]:
    """At most CURVES of some arms, in their order: the baseline, and those that end farthest from it."""
    far = {row["arm"]: abs(row["difference"]["mean"]) for row in lock["table"] if row["difference"]}
    far[lock["baseline"]] = inf
    chosen = sorted(names, key=lambda name: far.get(name, 0.0), reverse=True)[:CURVES]
    return [name for name in names if name in chosen]


def _is_shown(name: str, lock: Mapping[str, Any]) -> bool:
    """Whether an arm is drawn: of several grids of learning rates, each grid's best and the baseline."""
    grids = lock["rates"] or []
    if len(grids) < 2 or name == lock["baseline"]:
        return True
    key = lock["ablation"]["axis"]
    differs = next(row["differs"] for row in lock["table"] if row["arm"] == name)
    rest = {k: v for k, v in differs.items() if k != key}
    return any(g["differs"] == rest and g["best"] == float(differs[key]) for g in grids)


def legend(axes: "Axes") -> None:
    """A legend above the axes, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    fit = max(1, 90 // (max(map(len, labels)) + 6))
    rows = -(-len(labels) // fit)
    columns = -(-len(labels) // rows)  # as long as each other
    picture: Any = axes.figure
    picture.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=10)


def rates(axes: "Axes", grids: Sequence[Mapping[str, Any]], part: str) -> None:
    """Loss on a part against learning rate, a line per arm; a ring marks the best rate."""
    for i, grid in enumerate(grids):
        points = [point for point in grid["points"] if point["loss"]]
        if not points:
            continue
        colour, marker = look(i)
        aside = 1.015 ** (i - (len(grids) - 1) / 2)  # so that error bars do not overlap
        x, losses = [p["rate"] * aside for p in points], [p["loss"] for p in points]
        y = [loss["mean"] for loss in losses]
        label = grid["arm"] if len(grids) > 1 else None
        axes.errorbar(x, y, yerr=_error(losses), fmt=f"{marker}-", label=label, **_bars(colour))
        best = [(at, loss) for at, loss in zip(x, y) if at == (grid["best"] or 0) * aside]
        axes.plot(*zip(*best), "o", markersize=14, fillstyle="none", color=colour) if best else None
    without = sorted({p["rate"] for grid in grids for p in grid["points"] if not p["loss"]})
    named = " ".join(f"{rate:g}" for rate in without) + " (some arms)" * (len(grids) > 1)
    told = f"; no point where a run has no result: {named}" * bool(without)
    label = f"peak learning rate, logarithmic{told}"
    axes.set(xscale="log", xlabel=label, ylabel=f"{part} loss, nats per token")
    ticks = sorted({p["rate"] for grid in grids for p in grid["points"]})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    if len(grids) > 1:
        legend(axes)


def fit(axes: "Axes", lock: Mapping[str, Any]) -> None:
    """Loss against number of parameters on logarithmic axes, with the fitted law and its 95 % band."""
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
    axes.set(xscale="log", yscale="log", xlabel="parameters, logarithmic")
    axes.set_ylabel(f"{NATS}, logarithmic")
    axes.set_xticks(x, [f"{size:,}" for size in x])
    axes.margins(x=0.12)
    axes.yaxis.set_major_formatter("{x:.3f}")
    axes.yaxis.set_minor_formatter("{x:.3f}")
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.legend()


def look(i: int) -> tuple[str, str]:
    """Colour and marker of the i-th line; no two of 49 have both in common."""
    rounds, place = divmod(i, len(COLOURS))
    return COLOURS[place], MARKERS[(place + rounds) % len(MARKERS)]


def _error(losses: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """The lengths of the error bars below and above the means; 0 with a single seed."""
    low = [o["mean"] - o["low"] if o["low"] is not None else 0.0 for o in losses]
    high = [o["high"] - o["mean"] if o["high"] is not None else 0.0 for o in losses]
    return [low, high]


def _bars(colour: str) -> dict[str, Any]:
    return {"color": colour, "capsize": 4, "markersize": 6, "zorder": 2}


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()

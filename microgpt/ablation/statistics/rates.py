"""The best learning rate of a grid, and whether the grid goes on past it."""

from collections.abc import Iterable


def best_rate(tried: Iterable[tuple[float, float | None]]) -> tuple[float | None, str | None]:
    """The rate of the lowest mean loss, and which end of the grid it is at: `lowest`, `highest` or None.

    tried  rates, each with the mean loss of its runs; None where not all have one, which is never the best
    """
    grid = sorted(tried, key=lambda pair: pair[0])
    whole = [(loss, rate) for rate, loss in grid if loss is not None]
    best = min(whole)[1] if whole else None
    ends = {grid[0][0]: "lowest", grid[-1][0]: "highest"}
    return best, None if best is None else ends.get(best)


def not_ranked(best: float | None, edge: str | None) -> str | None:
    """Why the arms of a grid may not be ranked, if so."""
    if best is None:
        return "no learning rate at which all runs finished"
    return f"best learning rate {best:g} is its grid's {edge}" if edge else None

"""Draws the words for an interval: `words.png` and `words.svg`."""

from pathlib import Path

from microgpt.ablation.report.figures import COLOURS, GREY, figure
from microgpt.ablation.statistics.verdict import verdict

MATTERS = 0.01
SHOWN = [
    (-0.0240, -0.0130),
    (-0.0170, -0.0045),
    (-0.0080, -0.0025),
    (-0.0055, 0.0060),
    (0.0030, 0.0085),
    (0.0040, 0.0180),
    (0.0125, 0.0235),
    (-0.0050, 0.0150),
    (-0.0200, 0.0190),
]  # low and high


def draw(folder: Path) -> None:
    """Draws each interval of SHOWN beside its word."""
    with figure(folder, "words", 4.4) as (axes,):
        axes.axvspan(-MATTERS, MATTERS, color=GREY, alpha=0.15, linewidth=0)
        axes.axvline(0, color=COLOURS[1], linestyle="--", linewidth=1)
        for place, (low, high) in enumerate(SHOWN):
            word = verdict(low, high, MATTERS)
            colour = {"better": COLOURS[2], "worse": COLOURS[1]}.get(word.direction or "", GREY)
            middle, half = (low + high) / 2, (high - low) / 2
            axes.errorbar(middle, place, xerr=half, fmt="o", color=colour, capsize=4, linewidth=2)
            axes.annotate(word, (0.028, place), va="center", annotation_clip=False)
        axes.set_xlim(-0.027, 0.027)
        axes.set_ylim(len(SHOWN) - 0.5, -0.5)
        axes.set_yticks([])
        axes.set_xticks(
            [-2 * MATTERS, -MATTERS, 0, MATTERS, 2 * MATTERS],
            ["-0.02", "-matters", "0", "+matters", "0.02"],
        )
        axes.set_xlabel(
            "held-out loss of the arm less the baseline's, nats per token; left: better"
        )
        axes.set_title("95 % intervals; grey: too small to matter", fontsize=10, loc="left")
        axes.spines["left"].set_visible(False)


if __name__ == "__main__":
    draw(Path(__file__).parent)

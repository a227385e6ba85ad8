"""Draws the coordinate check of muP beside this file: python experiments/coordinates/draw.py"""

from pathlib import Path

import matplotlib
from hydra import compose, initialize_config_dir

from microgpt.ablation.coordinates import exponent, moves
from microgpt.app import config_path
from microgpt.build import resolve

WIDTHS, STEPS = (16, 32, 64, 128), (1, 4, 16)
WORDS = ["model.norm_final=true", "schedule=constant", "trainer.batch_size=8", "tracking=none"]
TITLES = {"normal": "plain parametrisation", "mup": "muP"}


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(9, 5), sharex=True, sharey="col")
    rows = ["| | activation | " + " | ".join(f"after {n} steps" for n in STEPS) + " |"]
    rows.append("|---|---|" + "---|" * len(STEPS))
    for line, init in zip(panels, TITLES):
        with initialize_config_dir(str(config_path()), version_base="1.3"):
            config = resolve(compose("train", [f"model/init={init}", *WORDS]))
        found = {steps: moves(config, WIDTHS, steps) for steps in STEPS}
        for axes, name in zip(line, found[STEPS[0]]):
            for steps in STEPS:
                axes.loglog(WIDTHS, found[steps][name], "o-", base=2, label=f"{steps} steps")
            axes.set_title(f"{TITLES[init]}: {name}", fontsize=9)
            slopes = " | ".join(f"{exponent(WIDTHS, found[n][name]):+.2f}" for n in STEPS)
            rows.append(f"| {TITLES[init]} | {name} | {slopes} |")
    panels[0][0].legend(fontsize=8)
    panels[0][0].set_ylabel("root mean square change")
    for axes in panels[1]:
        axes.set_xlabel("n_embd")
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("coordinates.png"), dpi=120)
    print("\n".join(rows))


if __name__ == "__main__":
    main()

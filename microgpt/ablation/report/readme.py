"""Renders the page of an experiment from its lock and the measured times."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.ablation.report.render import (
    count,
    figure,
    interval,
    markdown_table,
    p_of,
    render_table,
    signed,
)
from microgpt.ablation.statistics.power import CONFIDENCE, POWER
from microgpt.protocol.claims import claim

METHOD = "experiments/method/README.md"
LIMITS = (
    "At this scale: models of a few thousand parameters, one data set of first names, one budget of "
    "steps. Nothing here says that it holds for larger ones."
)


def render_readme(lock: Mapping[str, Any], times: Sequence[Mapping[str, Any]]) -> str:
    """The page of an experiment; `times` are clock times, which no lock contains."""
    asked, name = lock["ablation"] or {}, lock["experiment"]
    parts = [
        f"# {name}: {asked.get('question') or lock['description'] or 'a sweep without a question'}",
        f"Written by `microgpt report {name}`; every number here comes from it.",
        _stated(lock),
        f"**Verdict: {lock['verdict'] or 'none, since nothing was claimed'}.**"
        + (f" {sentence(lock['because'])}" if lock["because"] else ""),
        "## Setting",
        setting(lock),
        "## Result",
        render_table(lock),
        notes(lock),
        "![Held-out loss of each arm, with its 95 % interval](arms.png)",
        *_unfinished(lock),
        *_rates(lock["rates"], "Learning rates", "![Loss against learning rate](rates.png)"),
        *_fit(lock["fit"]),
        "## Have the curves flattened?",
        settled(lock),
        *(["![Held-out loss over steps, with 95 % bands](curves.png)"] if lock["settled"] else []),
        *_tuning(lock["tuning"]),
        "## What it took",
        _times(times),
        "## Limits",
        str(asked.get("limits") or LIMITS),
        "## Check it",
        check(name, asked.get("tuning")),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _stated(lock: Mapping[str, Any]) -> str:
    """Source, expectation and claim, as in the configuration when the runs were trained."""
    asked = lock["ablation"] or {}
    told = [("Source", asked.get("source")), ("Expectation", asked.get("expectation"))]
    lines = [f"- {key}: {sentence(str(text))}" for key, text in told if text]
    if asked.get("claim"):
        lines.append(f"- Claim, as a machine judges it: {claim(asked['claim'])}; ")
        lines[-1] += f"a difference matters from {asked['matters']:g} nats per token on."
    return "\n".join(lines) or "No question was written down before this sweep."


def setting(lock: Mapping[str, Any]) -> str:
    """The settings that all arms share."""
    config, data = lock["config"], lock["data"]
    trainer = config["trainer"]
    seeds = sorted({run["seed"] for run in lock["runs"]})
    optimizer, schedule = (
        config[key]["_target_"].rpartition(".")[2] for key in ("optimizer", "schedule")
    )
    model = {key: config["model"][key] for key in ("n_layer", "n_head", "n_embd", "block_size")}
    varied = {key for row in lock["table"] for key in row["differs"]}
    same = [f"{key} {value}" for key, value in model.items() if f"model.{key}" not in varied]
    rate = "" if "optimizer.lr" in varied else f", peak learning rate {config['optimizer']['lr']:g}"
    return "\n".join(
        [
            f"- data: {data['name']}, {count(data['documents'])} documents, of which "
            f"{count(data['val_documents'])} held out; digest `{data['digest'][:12]}`",
            f"- model: {', '.join(same)}; engine {lock['fingerprint'].get('engine', 'unknown')}",
            f"- training: {count(trainer['num_steps'])} steps of {trainer['batch_size']} documents, "
            f"{optimizer}{rate}, schedule {schedule}",
            f"- held-out loss: nats per token on {count(trainer['eval_documents'])} held-out "
            f"documents after the last step; seeds {span(seeds)}",
            f"- sweep `{lock['sweep']['id']}`, baseline {lock['baseline']}",
        ]
    )


def notes(lock: Mapping[str, Any]) -> str:
    """Notes on how to read the table."""
    compared = sum(1 for row in lock["table"] if row["difference"])
    several = (
        f" The intervals of all {compared} differences hold together (Bonferroni), with p and `could show`."
        if compared > 1
        else ""
    )
    return (
        "Means over seeds; sd is that of a single run, its interval is for itself alone. The difference "
        "is paired: arm less baseline at the same seed, which is the same documents in the same order and "
        f"the same initial weights where shapes match; its interval is Student's.{several} "
        f"`{METHOD}` explains the words. `could show` is the smallest true difference that as many seeds "
        f"show with power {POWER:g}, with {100 * CONFIDENCE:.0f} % confidence in the sd. All intervals are "
        "over seeds, for these held-out documents. Tokens are predicted tokens in training, the mean over "
        "seeds."
    )


def _unfinished(lock: Mapping[str, Any]) -> list[str]:
    left = [run for run in lock["runs"] if run["status"] != "finished"]
    if not left:
        return []
    head = f"{len(left)} of {len(lock['runs'])} runs have no result and are in no mean:"
    return ["\n".join([head, "", *(f"- {run['name']}: {run['reason']}" for run in left)])]


def _rates(grids: Sequence[Mapping[str, Any]] | None, title: str, picture: str) -> list[str]:
    """The best learning rate of each arm."""
    if not grids:
        return []
    rows: list[tuple[str, ...]] = [
        ("arm", "rates tried", "best", "its held-out loss", "95 % interval", "remark")
    ]
    rows += [_grid_row(grid) for grid in grids]
    return [f"## {title}", markdown_table(rows), picture]


def _grid_row(grid: Mapping[str, Any]) -> tuple[str, ...]:
    best = next((p["loss"] for p in grid["points"] if p["rate"] == grid["best"]), None) or {}
    tried = " ".join(f"{point['rate']:g}" for point in grid["points"])
    rate = "" if grid["best"] is None else f"{grid['best']:g}"
    return grid["arm"], tried, rate, figure(best.get("mean")), interval(best), grid["flag"] or ""


def _fit(fit: Mapping[str, Any] | None) -> list[str]:
    if not fit:
        return []
    exponent, bend = fit["exponent"], fit["bend"]
    rows = [("from", "to", "exponent", "95 % interval")]
    rows += [(o["from"], o["to"], figure(o["mean"]), interval(o)) for o in fit["local"]]
    return [
        "## Power law",
        f"loss = {fit['factor']:.3f} · parameters^-{exponent['mean']:.4f}, "
        f"95 % interval of the exponent {interval(exponent)} (Student's, over {exponent['n']} seeds, each "
        "with a least-squares line of its own in logarithms: the points of one seed go together).",
        f"Bend: {bend['word']} (coefficient of (ln parameters)² {signed(bend['mean'])}, "
        f"95 % {interval(bend, signed)}, p {p_of(bend['p'])}). The exponents between neighbours:",
        markdown_table(rows),
        "![Held-out loss against parameters](fit.png)",
    ]


def settled(lock: Mapping[str, Any]) -> str:
    """How much the losses changed over the last fifth of the steps or more, compared with `matters`."""
    found, matters = lock["settled"], (lock["ablation"] or {}).get("matters")
    if found is None:
        return "Nobody knows: no run was evaluated on the way (`trainer.eval_every`)."
    most, share = found["most"], f"{100 * found['share']:.0f} %"
    text = (
        f"Over the last {share} of the steps held-out loss fell by {figure(found['mean'])} on average "
        f"over the arms, and by {figure(most['fell'])} where it fell most ({most['arm']})."
    )
    moved = found.get("difference")
    if moved:
        text += " Differences from the baseline moved by "
        text += f"{figure(abs(moved['moved']))} at most ({moved['arm']})."
    if found["decays"]:
        return (
            f"{text} The learning rate falls to near zero, which flattens any curve: whether a longer run "
            "would end otherwise, only longer runs can tell."
        )
    if not matters:
        return text
    if most["fell"] < matters:
        return f"{text} The fall is below {matters:g}, what matters."
    if moved and abs(moved["moved"]) < matters:
        return (
            f"{text} The fall is not below {matters:g}, what matters, but the movement of the differences "
            "is: the losses are those of this budget of steps, the comparison has settled."
        )
    return f"{text} That is not below {matters:g}, what matters: a longer run may end otherwise."


def _tuning(tuning: Mapping[str, Any] | None) -> list[str]:
    if not tuning:
        return []
    if tuning["sweep"] is None:
        said = f"No sweep of `{tuning['experiment']}` is in the store: no arm is ranked."
        return ["## How the learning rates were chosen", said]
    departs = [
        f"`{key}` {tuned} there, {run} here" for key, (tuned, run) in tuning["departs"].items()
    ]
    told = f"By `{tuning['experiment']}` (sweep `{tuning['sweep']}`), on seeds {span(tuning['seeds'])}."
    if departs:
        told += f" It departs from this sweep in: {'; '.join(departs)}."
    return [
        *_rates(
            tuning["grids"],
            "How the learning rates were chosen",
            "![Loss against learning rate, in the tuning sweep](rates.png)",
        ),
        told,
    ]


def _times(times: Sequence[Mapping[str, Any]]) -> str:
    rows = [("arm", "seconds a run (median)", "tokens a second (median)")]
    rows += [(t["arm"], f"{t['seconds']:,.1f}", f"{t['rate']:,.0f}") for t in times]
    head = "By the clocks of the machines that ran it; in no lock, and compared with nothing."
    return f"{head}\n\n{markdown_table(rows)}"


def check(name: str, tuned_by: str | None) -> str:
    """The commands that train, report and verify the experiment."""
    trained = [f"    microgpt train -m experiment={one}" for one in (tuned_by, name) if one]
    commands = [*trained, f"    microgpt report {name}", f"    microgpt verify {name}"]
    return "\n".join(commands) + (
        "\n\nTo look at the runs: `microgpt ui`; this page is among the artifacts of the sweep's run."
    )


def span(seeds: Sequence[int]) -> str:
    """`0-4`, or `100, 101`."""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def sentence(text: str) -> str:
    """The text with exactly one full stop at its end."""
    return f"{' '.join(text.split()).rstrip('.')}."

"""Sentences of a report, in plain words, from the lock alone; the page and the terminal have the same."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from microgpt.ablation.evidence import history
from microgpt.ablation.report.looks import is_cut_short, stopped
from microgpt.ablation.report.render import count, figure, interval, is_known, signed
from microgpt.ablation.statistics.verdict import Outcome
from microgpt.terminal import span

Lock: TypeAlias = Mapping[str, Any]
LENGTHS = ("trainer.num_steps", "trainer.batch_size", "trainer.accumulate")
MEANING = {
    Outcome.SUPPORTED: "the runs show what was claimed, by as much as was claimed",
    Outcome.REFUTED: "the runs show that what was claimed does not hold, or not by as much as was claimed",
    Outcome.OPPOSITE: "the runs show the opposite of what was claimed",
    Outcome.UNDECIDED: "the runs show neither that what was claimed holds, nor that it does not",
}


def standing(lock: Lock) -> str:
    """Whether what was claimed, or asked, was written before the results were known."""
    protocol, runs = lock["protocol"], len(lock["runs"])
    if protocol is None:
        return "Exploratory: no protocol was frozen before these runs."
    known, of_base = protocol["known_before"], protocol.get("known_of_baseline", 0)
    what, kind = ("claim", "Confirmatory") if lock["verdict"] else ("question", "Descriptive")
    named = f"(protocol {protocol['digest'][:12]})"
    if known:
        beside = f", beside {of_base} of the baseline," * bool(of_base)
        told = f"{known} of {runs} runs{beside} were known before this {what} was written"
        return f"Exploratory: {told} {named}."
    but = f" but {of_base} of the baseline, which alone show no difference," * bool(of_base)
    return f"{kind}: the {what} was written before any of its {runs} runs{but} had ended {named}."


def verdict(lock: Lock) -> str:
    """The verdict, what its word means, and the numbers behind it."""
    if not lock["verdict"]:
        return "Verdict: none, since nothing was claimed."
    word = Outcome(lock["verdict"])
    return f"Verdict: {word}. Here {word} means that {MEANING[word]}."


def claimed(lock: Lock) -> str:
    """The claim in words; empty if nothing was claimed."""
    stated = (lock["ablation"] or {}).get("claim")
    return _plain(history.words(stated)) if stated else ""


def _plain(text: str) -> str:
    """`norm_qk=true`, as in the names of arms, for Python's `norm_qk=True`."""
    return re.sub("(?<==)(True|False)\\b", lambda found: found[0].lower(), text)


def numbers(lock: Lock) -> list[str]:
    """The numbers behind the verdict, as the claim's judge told them: one part of the claim each.

    An optimum is one part: an inner arm and both ends.
    """
    told, found = _plain(str(lock["because"] or "")), kinds(lock)
    whole = {"all": r"; (?=')", "optimum": r"$"}
    mark = next((whole[kind] for kind in whole if kind in found), "; ")
    return [sentence(one) for one in re.split(mark, told) if one]


def kinds(lock: Lock) -> set[str]:
    """The kinds of the claim and of its parts."""
    stated = (lock["ablation"] or {}).get("claim") or {}
    return {str(one.get("kind")) for one in (stated, *stated.get("claims", ()))}


def compares(lock: Lock) -> bool:
    """Whether the claim is about differences of arms, and their intervals are told."""
    is_told = "95 % " in str(lock["because"])
    return is_told and bool(kinds(lock) & {"better", "worse", "equal", "optimum"})


def matters(lock: Lock) -> str:
    """Which difference matters, and what the words of the claim mean by it."""
    least, found = lock["ablation"]["matters"], kinds(lock)
    if not least:
        return "any difference"
    told = f"a difference of {least:g} nats per token"
    if found & {"better", "worse", "optimum"}:
        told += "; *better* and *worse* claim that or more"
    return f"{told}; *as good* claims less, in either direction" if "equal" in found else told


def ends(lock: Lock) -> str:
    """Which arms an optimum lies between; empty if none is claimed."""
    if "optimum" not in kinds(lock):
        return ""
    axis = lock["ablation"]["axis"]
    arms = sorted(lock["table"], key=lambda row: float(row["differs"][axis]))
    return (
        f"ends: {arms[0]['arm']} and {arms[-1]['arm']}; the arms between are the inner ones, of which the "
        "best is compared with each end"
    )


def effect(lock: Lock) -> str:
    """The largest difference from the baseline, with its interval; empty without any."""
    rows = [row for row in lock["table"] if row["difference"]]
    if not rows:
        return ""
    row = max(rows, key=lambda row: abs(row["difference"]["mean"]))
    found = row["difference"]
    side = "higher" if found["mean"] > 0 else "lower"
    told = f"Largest difference: {row['arm']} ends {figure(abs(found['mean']))} nats per token {side} than "
    told += f"{lock['baseline']}"
    between = f" (95 % {interval(found, signed)})" if found["low"] is not None else ""
    return f"{told}{between}: {row['word']}."


def of_other_documents(lock: Lock) -> str:
    """Whether the arms keep their words if the documents are a sample too."""
    words = {row["arm"]: row["word"] for row in lock["table"]}
    other = [
        f"{name} is {found['word']}"
        for name, found in lock["crossed"]["arms"].items()
        if found["word"] != words[name]
    ]
    if not other:
        return "By the interval over both, the verdict of no arm changes."
    return f"By the interval over both, {'; '.join(other)}."


def departures(lock: Lock) -> list[str]:
    """How the runs depart from the protocol."""
    return [*_departures(lock)]


def _departures(lock: Lock) -> Iterator[str]:
    protocol, runs = lock["protocol"], lock["runs"]
    if protocol is None:
        yield "There was no protocol."
    elif known := protocol["known_before"]:
        yield f"{known} of its {len(runs)} runs were known before, as the first line says."
    if left := [run for run in runs if run["status"] != "finished"]:
        yield f"{of_failed_runs(len(left), len(runs))} (see Failed runs)."
    if "stopped" in lock:
        if is_cut_short(lock):
            yield f"No more seeds were added, though the answer was open: {stopped(lock)}"
    elif protocol:
        planned, seeds = protocol["content"]["seeds"], sorted({run["seed"] for run in runs})
        if planned != seeds:
            yield f"The protocol has the seeds {span(planned)}; the runs have {span(seeds)}."
    done = [run for run in runs if run["status"] == "finished"]
    if _versions(lock):
        yield "The runs were trained by more than one version of the code."
    if others := [run for run in done if "fingerprint" in run]:
        yield f"Trained on another machine, Python or library than the rest: {len(others)} of the runs."


def _versions(lock: Lock) -> bool:
    """Whether runs of one arm have different code, or two runs a file with different content."""
    arms, files = defaultdict(set), defaultdict(set)
    for run in lock["runs"]:
        if run["status"] == "finished":
            arms[run["arm"]].add(run["source"])
    for known in lock["source_files"].values():
        for module, digest in known.items():
            files[module].add(digest)
    return any(len(found) > 1 for found in (*arms.values(), *files.values()))


def earlier(lock: Lock) -> list[str]:
    """The verdicts under earlier protocols, or of earlier sweeps, a line each."""
    return [
        f"{one['time'][:16].replace('T', ' ') or 'before protocols were frozen'}: "
        f"'{one['claim']}' was {one['verdict'] or 'not reported'}"
        + (f" (protocol `{one['digest'][:12]}`)" if one["digest"] else "")
        + _not_ranked(str(one["because"]))
        for one in lock["earlier"]
    ]


def _not_ranked(because: str) -> str:
    """Which arms an earlier verdict did not rank, and why: what it was undecided for."""
    found = dict.fromkeys(re.findall(r"[^;:']+ is not ranked[^;]*", because))
    return f":{';'.join(found)}" if found else ""


def flattened(lock: Lock) -> str:
    """Whether the losses still fell at the end, as far as that can be said."""
    found, matters = lock["flattened"], (lock["ablation"] or {}).get("matters")
    if found is None:
        return "This sweep cannot say: no run was evaluated on the way (`trainer.eval_every`)."
    if found["decays"]:
        return (
            "This sweep cannot say. The learning rate ends near zero, which flattens any curve. Whether "
            "longer runs would end otherwise, only longer runs can tell, each with its own schedule."
        )
    share = f"Over the last {100 * found['share']:.0f} % of the steps"
    told = _slope(found["fell"], matters, f"{share} held-out loss fell", "arms")
    if found["moved"]:
        told += " " + _slope(
            found["moved"], matters, "Meanwhile the differences moved", "differences"
        )
    return told


def _slope(found: Mapping[str, Any], matters: float | None, what: str, of: str) -> str:
    """One sentence about slopes: of the largest, whether all are within what matters."""
    name, most = max(found.items(), key=lambda pair: abs(pair[1]["mean"]))
    told = f"{what} by {figure(most['mean'])} where it was most ({name}; 95 % {interval(most, signed)})"
    ends = [(one["low"], one["high"]) for one in found.values()]
    if not matters or any(low is None for low, _ in ends):
        return f"{told}."
    if all(-matters < low and high < matters for low, high in ends):
        return f"{told}; the intervals of all {of} are within {matters:g}, what matters: flat."
    if any(low >= matters or high <= -matters for low, high in ends):
        return f"{told}, beyond {matters:g}, what matters: not flat."
    return f"{told}; whether by less than {matters:g}, what matters, is undecided."


def robustness(lock: Lock) -> list[str]:
    """A line for each experiment that asks the same elsewhere."""
    return [
        f"[{one['experiment']}](../{one['experiment']}/README.md): "
        + (
            "no verdict yet"
            if one["same"] is None
            else "the same verdict" * one["same"] or "another verdict"
        )
        + (f", {one['verdict']}" if one["verdict"] else "")
        + _contradicted(one["contradict"])
        for one in lock["robustness"]
    ]


def _contradicted(arms: Sequence[str]) -> str:
    """On which arms the other experiment says what fits no difference that this one allows."""
    return f"; the two words for {', '.join(arms)} exclude each other" if arms else ""


def of_failed_runs(left: int, runs: int) -> str:
    """How many runs count in no mean."""
    verbs = ("has", "counts") if left == 1 else ("have", "count")
    return f"{left} of the {runs} runs {verbs[0]} no result and {verbs[1]} in no mean"


def of_no_result(grids: Sequence[Mapping[str, Any]]) -> str:
    """What becomes of rates at which a run has no result, as a paragraph; empty if there is none."""
    if all(point["loss"] for grid in grids for point in grid["points"]):
        return ""
    return "A rate at which a run has *no result* has no point in the figure, and is never the best.\n\n"


def multiplier(lock: Lock, arm: str) -> str:
    """`1.20 [1.17, 1.23] (1,000 for 830 steps)`; without a value, why there is none."""
    found = lock["multipliers"].get(arm)
    if not found:
        return _no_multiplier(lock, arm)
    own, base = (count(round(found[key])) for key in ("arm", "baseline"))
    between = interval(lock["multiplier_intervals"].get(arm, {}), "{:.2f}".format)
    return " ".join(filter(None, [f"{found['times']:.2f}", between, f"({own} for {base} steps)"]))


def _no_multiplier(lock: Lock, arm: str) -> str:
    rows = {row["arm"]: row for row in lock["table"]}
    row, base = rows[arm], rows[lock["baseline"]]
    if row is base:
        return "baseline"
    if row["flag"]:
        return "not ranked"
    if not row["difference"]:
        return "not compared"
    if not is_known(row):
        return "no known difference"
    lengths = ([each["differs"].get(key) for key in LENGTHS] for each in (row, base))
    if row["tokens"] != base["tokens"] or len({*map(tuple, lengths)}) > 1:
        return "other steps, or tokens"
    return "off the other's curve" if lock["curves"] else "no curve"


def sentence(text: str) -> str:
    """The text in one line, with exactly one mark at its end."""
    line = " ".join(text.split())
    return line if line.endswith(("?", "!")) else f"{line.rstrip('.')}."

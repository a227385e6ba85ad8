"""What a lock says of its protocol, runs, data and tuning, held against each other and against conf/."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from microgpt.ablation.evidence.lock import ASIDE, LOCK, config_of, read_lock
from microgpt.ablation.reproduce.alike import unlike
from microgpt.ablation.reproduce.recount import figure_of
from microgpt.ablation.reproduce.replay import Difference
from microgpt.app import config_path
from microgpt.build import Parts
from microgpt.complaints import UNCOMPOSED
from microgpt.core.check import BadValue
from microgpt.protocol.arms import Planned
from microgpt.protocol.protocol import content, digest_of
from microgpt.protocol.section import question
from microgpt.protocol.stopping import FIXED, begins, looks
from microgpt.run.identity import signature
from microgpt.run.reading import BadRecord
from microgpt.run.record import FINISHED
from microgpt.sweep.planned import protocol_of
from microgpt.terminal import ConfigError, first_line
from microgpt.trust import Untrusted

Entry = Mapping[str, Any]


def contradictions(lock: Entry, base: Parts) -> Iterator[Difference]:
    """What does not fit together in a lock; `base` are the parts of one of its runs. Raises BadValue."""
    yield from _runs(lock, base)
    wanted, tuning = (lock["ablation"] or {}).get("tuning"), lock["tuning"]
    if wanted != (tuning and tuning["experiment"]):
        yield _contradiction("tuning", tuning, wanted, "its question gives")
    if lock["protocol"] is not None:
        yield from _protocol(lock)
    for key, fact in lock["data"].items():
        if base.data.get(key) != fact:
            yield _contradiction(f"data.{key}", fact, base.data.get(key), "the documents give")


def _contradiction(place: str, said: Any, given: Any, who: str) -> Difference:
    return Difference(
        f"the lock contradicts itself in {place}", f"it says {said!r}; {who} {given!r}"
    )


def _runs(lock: Entry, base: Parts) -> Iterator[Difference]:
    """Signatures and seeds are those of the runs' configurations."""
    engine, arithmetic = base.config["engine"], base.trainer.engine.arithmetic
    for run in lock["runs"]:
        if run["status"] != FINISHED:
            continue
        config, name = config_of(lock, run), run["name"]
        asked = signature(config, lock["data"]["digest"], arithmetic)
        if config["engine"] == engine and asked != run["signature"]:
            yield _contradiction(
                f"signature of {name}", run["signature"], asked, "its configuration gives"
            )
        if config["seed"] != run["seed"]:
            yield _contradiction(
                f"seed of {name}", run["seed"], config["seed"], "its configuration gives"
            )


def _protocol(lock: Entry) -> Iterator[Difference]:
    """The protocol is that of the lock's question, arms, seeds, data and runs, and has its digest."""
    frozen, runs, asked = lock["protocol"], lock["runs"], question(lock["ablation"])
    whole = begins(asked.stopping, runs)
    for key, given in whole.items():
        if lock["sweep"][key] != given:
            yield _contradiction(f"sweep.{key}", lock["sweep"][key], given, "its runs give")
    seeds = {
        row["arm"]: [r["seed"] for r in runs if r["arm"] == row["arm"]] for row in lock["table"]
    }
    if asked.stopping != FIXED:
        planned = list(frozen["content"]["seeds"])
        if (spent := sorted({*chain(*seeds.values())})) not in looks(asked.stopping, planned):
            who = f"none of the looks at {planned} has"
            yield _contradiction("the seeds of its runs", planned, spent, who)
        seeds = dict.fromkeys(seeds, planned)
    arms = [Planned(row["arm"], row["differs"], seeds[row["arm"]]) for row in lock["table"]]
    known = whole["signature"], lock["config"]["data"], lock["data"]["digest"]
    if found := unlike(frozen["content"], content(asked, arms, *known), "protocol"):
        yield _contradiction(*found, "the rest of it gives")
    if frozen["digest"] != (digest := digest_of(frozen["content"])):
        yield _contradiction("protocol.digest", frozen["digest"], digest, "its content gives")


def edited_since(lock: Entry) -> Difference | str | None:
    """Whether the experiment's file in conf/ asks something else; or why nobody knows.

    None if it does not, or is not there. Raises Untrusted.
    """
    file = config_path() / f"experiment/{lock['experiment']}.yaml"
    if lock["protocol"] is None or not file.is_file():
        return None
    words = [f"experiment={lock['experiment']}"]
    for word in lock["sweep"]["overrides"]:
        if re.split("[=./@:]", word.lstrip("+~"))[0] in ASIDE:  # a report leaves them out
            return _contradiction("sweep.overrides", word, "no such word", "a report gives")
        if _may_name_code(word):
            raise Untrusted(f"sweep.overrides={word!r}: must name no class and no file")
        words.append(word)
    try:
        now = protocol_of(words, config_path())
    except BadValue as error:
        return Difference(f"{file} can no longer be asked", str(error))
    except (ConfigError, *UNCOMPOSED) as error:
        problem = first_line(error)
        if _is_whole(words[0]):  # so it is the lock's words
            return Difference(f"{file} cannot be asked as the lock says", problem)
        return f"{file} is not compared: {problem}"
    if found := unlike(lock["protocol"]["content"], now, "protocol"):
        place, said, given = found
        says = f"the lock says {said!r}; the file {given!r}"
        return Difference(f"{file} is not what the lock says, in {place}", says)
    return None


def _is_whole(experiment: str) -> bool:
    """Whether the file of an experiment can be asked as it is."""
    try:
        protocol_of([experiment], config_path())
    except (BadValue, ConfigError, *UNCOMPOSED):
        return False
    return True


def _may_name_code(word: str) -> bool:
    """Whether a word of another's command line may name what is then imported.

    It may name options of conf/ and set values, but no key of Hydra's own, as `_target_`, and no file.
    """
    key, _, value = word.partition("=")
    is_option = "." not in key
    return bool(re.search(r"_[a-z]+_\b|\$\{|@", word)) or (
        is_option and ("/" in value or ".." in value)
    )


def tuned_by(lock: Entry, path: Path) -> Difference | str | None:
    """Whether the lock of the tuning sweep, beside this one, has the same runs; or why nobody knows."""
    said = lock["tuning"]
    if said is None or said["sweep"] is None:
        return None
    file = path.parent.parent / said["experiment"] / LOCK
    try:
        other = read_lock(file)
    except BadRecord as error:
        return f"how the rates were chosen is not checked: {error}"
    if other["sweep"]["id"] != said["sweep"]:
        return f"how the rates were chosen is not checked: {file} is of another sweep"
    if said["figure"] != (figure := figure_of(other)):
        return _contradiction("tuning.figure", said["figure"], figure, f"{file} gives")
    if found := unlike(said["runs"], _tried(other), "tuning.runs"):
        place, mine, theirs = found
        return Difference(
            f"{path} and {file} differ in {place}", f"{mine!r} here, {theirs!r} there"
        )
    return None


def _tried(lock: Entry) -> list[dict[str, Any]]:
    """The runs of a lock, as the lock of an experiment that they tuned has them."""
    figure, runs = figure_of(lock), lock["runs"]
    return [
        {"arm": row["arm"], "differs": row["differs"], "seed": run["seed"], "status": run["status"]}
        | {"loss": run.get("metrics", {}).get(figure)}
        for row in lock["table"]
        for run in runs
        if run["arm"] == row["arm"]
    ]

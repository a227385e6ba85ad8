"""What a run is called in a store: its params and its tags."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from microgpt.run.folder import OUTCOME
from microgpt.run.identity import NEUTRAL, choices, chosen
from microgpt.run.record import KILLED
from microgpt.tracking.store import cut

# Params that nobody compares.
ASIDE = ("sampling.", "trainer.log_every", "trainer.checkpoint_every")
FACTS = ("fingerprint", "data")
COUNTS = ("name", "documents", "val_documents", "test_documents", "digest")
# Facts that are tags.
TOLD = {f"fingerprint.{key}" for key in ("python", "machine", "engine")}
TOLD |= {f"data.{key}" for key in COUNTS}
USUAL = {  # params with which runs do what they did before the params existed
    key.removesuffix("._target_"): str(value).rpartition(".")[2] for key, value in NEUTRAL.items()
}


def params_of(config: Mapping[str, Any], swept: Collection[str] = ()) -> dict[str, str]:
    """What people compare of a configuration; the run's file config.yaml has the rest.

    swept  the short names of what a sweep varies, which is always there

    A class stands under its group's name. Left out are values that are neutral or null, how samples are
    drawn, how often something is written, and `trainer.stop_after`, which a resume may change.
    """
    told, params = chosen(config), {}
    for key, value in choices(config).items():
        name = key.removesuffix("._target_")
        is_told = key in told and value is not None and not name.startswith(ASIDE)
        if (is_told or _is_swept(name, swept)) and name != "trainer.stop_after":
            params[name] = cut(_class(str(value)) if name != key else str(value))
    return params


def comparable(params: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The params of runs, without what some of them leave out because it is usual."""
    common = set.intersection(*map(set, params)) if params else set()
    return [
        {key: value for key, value in each.items() if key in common or not _is_usual(key, value)}
        for each in params
    ]


def _is_swept(name: str, swept: Collection[str]) -> bool:
    return any(f".{name}".endswith(f".{each.replace('/', '.')}") for each in swept)


def _is_usual(name: str, value: str) -> bool:
    return value == "None" or USUAL.get(name) == value or name.startswith(ASIDE)


def _class(target: str) -> str:
    """The name of a class; `native` for the engine that a function of this name makes."""
    module, _, name = target.rpartition(".")
    return module.rpartition(".")[2] if name == "engine" else name


def facts_of(info: Mapping[str, Any]) -> dict[str, str]:
    """All that is known of the data and of what the bits may depend on, under the names of tags."""
    facts = {f"{of}.{key}": value for of in FACTS for key, value in info.get(of, {}).items()}
    return {key: cut(str(value)) for key, value in facts.items()}


def tags_of(info: Mapping[str, Any], status: str) -> dict[str, str]:
    """What to find and to judge a run by; its file run.json has the rest."""
    tags = {key: str(info[key]) for key in ("signature", "source", "n_params") if key in info}
    tags |= {f"sweep.{sweep}": arm for sweep, arm in info.get("sweeps", {}).items()}
    tags |= info.get("swept", {})
    tags |= {key: value for key, value in facts_of(info).items() if key in TOLD}
    tags |= {f"git.{key}": value for key, value in info["git"].items()}
    origin = {key: fact for key, fact in info.get("fork", {}).items() if key != "fork"}
    tags |= {f"fork.{key}": str(fact) for key, fact in origin.items() if fact != ""}
    tags |= {key: str(info[key]) for key in OUTCOME[1:] if info.get(key) is not None}
    if info.get("refused"):
        tags["refused"] = "true"
    if status == KILLED:
        tags["reason"] = "its process was killed"
    if info.get("description"):
        tags["mlflow.note.content"] = str(info["description"])
    return {key: cut(value) for key, value in tags.items()}

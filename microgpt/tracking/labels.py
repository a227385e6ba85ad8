"""What a run is called in a store: its params and its tags."""

from collections.abc import Mapping
from typing import Any

from microgpt.run.folder import OUTCOME
from microgpt.run.identity import choices
from microgpt.run.record import KILLED
from microgpt.tracking.store import cut


def params_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf that the run may depend on; a class stands under its group's name.

    `trainer.stop_after` is left out: it may change when a run is resumed, and a param may not.
    """
    params = {}
    for key, value in choices(config).items():
        if key != "trainer.stop_after":
            name = key.removesuffix("._target_")
            params[name] = cut(str(value).rpartition(".")[2] if name != key else str(value))
    return params


def tags_of(info: Mapping[str, Any], status: str) -> dict[str, str]:
    """What to find and to judge a run by."""
    tags = {key: str(info[key]) for key in ("signature", "source", "n_params") if key in info}
    tags |= {f"sweep.{sweep}": arm for sweep, arm in info.get("sweeps", {}).items()}
    tags |= info.get("swept", {})
    tags |= {f"fingerprint.{key}": value for key, value in info["fingerprint"].items()}
    tags |= {f"data.{key}": str(value) for key, value in info["data"].items()}
    tags |= {f"git.{key}": value for key, value in info["git"].items()}
    tags |= {f"package.{key}": value for key, value in info.get("packages", {}).items()}
    origin = {key: fact for key, fact in info.get("fork", {}).items() if key != "fork"}
    tags |= {f"fork.{key}": str(fact) for key, fact in origin.items() if fact != ""}
    tags |= {key: str(info[key]) for key in OUTCOME[1:] if info.get(key) is not None}
    if status == KILLED:
        tags["reason"] = "its process was killed"
    if info.get("description"):
        tags["mlflow.note.content"] = str(info["description"])
    return {key: cut(value) for key, value in tags.items()}

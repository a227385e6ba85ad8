"""The data of a run as MLflow's dataset inputs: what it was trained on, and the held-out parts."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from microgpt.protocol.protocol import SPLIT
from microgpt.tracking.store import cut

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

HELD_OUT = {"validation": "val_documents", "test": "test_documents"}  # context -> fact of the data
DIGITS = 32  # of a digest: the store's limit is 36


def datasets_of(data: Mapping[str, Any], config: Mapping[str, Any]) -> "list[DatasetInput]":
    """The dataset, and its held-out parts that are not empty, each with its context.

    data    the facts about the data in run.json
    config  the group `data` of the configuration, which says how it is split
    """
    profile = {key: value for key, value in data.items() if isinstance(value, int)}
    given = [_input("training", data, data["name"], data["digest"], profile)]
    split = [config.get(key) for key in SPLIT]
    for context, fact in HELD_OUT.items():
        if count := data.get(fact):
            digest = sha256(json.dumps([data["digest"], context, split]).encode()).hexdigest()
            name = f"{data['name']} {context}"
            given.append(_input(context, data, name, digest, {"documents": count}))
    return given


def _input(
    context: str, data: Mapping[str, Any], name: str, digest: str, profile: Mapping[str, int]
) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=name,
        digest=digest[:DIGITS],
        source_type="local",
        source=json.dumps({"uri": "documents.txt"}),
        schema=json.dumps({"vocabulary": cut(data["vocabulary"])}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])

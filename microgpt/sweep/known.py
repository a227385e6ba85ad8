"""What a job must be told that its launcher knows by itself: a worker may be at home elsewhere."""

import os
from collections.abc import Mapping
from typing import Any

from microgpt.secret import ADDRESS, kept


def known_here(sweep: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Values for keys of the configurations of a sweep's jobs; `config` is the sweep's own."""
    return {"sweep": sweep, "paths.outputs": config["paths"]["outputs"], **store_here(config)}


def store_here(config: Mapping[str, Any]) -> dict[str, str]:
    """The store that jobs are told of: that of this environment, or their own without its password."""
    own = config["tracking"].get("uri", "")
    if own is None:
        uri = os.environ.get(ADDRESS)
    else:
        uri = kept(own) if isinstance(own, str) and kept(own) != own else None
    return {"tracking.uri": uri} if uri else {}


def given(config: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """A configuration with other values for keys of it; what it shares with others is left alone."""
    for key, value in values.items():
        group, _, name = key.rpartition(".")
        config = config | ({group: {**config[group], name: value}} if group else {name: value})
    return config

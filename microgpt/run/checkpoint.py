"""A run's state as a safetensors file, written atomically.

Tensors: the weights under their names and the optimizer's slots under `optim/<slot>/<weight>` (F64), the
random generators under `rng/<purpose>` (I64). The metadata holds the step and the seconds of training.
"""

import json
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from microgpt.core.events import Checkpointed

TYPECODES = {"F64": "d", "I64": "q"}


class BadCheckpoint(ValueError):
    """A file that is not a complete checkpoint."""


def write_checkpoint(path: Path, state: Checkpointed) -> None:
    """Writes `state` to `path`, atomically."""
    numbers: dict[str, tuple[tuple[int, ...], array[Any]]] = {}
    for name, weight in state.weights.items():
        numbers[name] = state.shapes[name], array("d", weight)
    for slot, weights in state.slots.items():
        for name, flat in weights.items():
            numbers[f"optim/{slot}/{name}"] = state.shapes[name], array("d", flat)
    for purpose, words in state.streams.items():
        numbers[f"rng/{purpose}"] = (len(words),), array("q", words)
    metadata = {"step": str(state.step), "seconds": repr(state.seconds)}
    if state.best:
        metadata["best"] = json.dumps(state.best)
    tensors = {name: _spec(shape, buffer) for name, (shape, buffer) in numbers.items()}
    write_whole(path, safetensors.serialize(tensors, metadata))


def read_checkpoint(path: Path) -> Checkpointed:
    """Reads the state from `path`. Raises BadCheckpoint, OSError."""
    content = path.read_bytes()
    try:
        return _parse(content)
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise BadCheckpoint(f"{path} is not a complete checkpoint: {error}") from error


def _parse(content: bytes) -> Checkpointed:
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    best = json.loads(metadata["best"]) if "best" in metadata else None
    step, seconds = int(metadata["step"]), float(metadata["seconds"])
    state = Checkpointed(step, {}, {}, {}, {}, seconds, (best[0], best[1]) if best else None)
    for name, tensor in safetensors.deserialize(content):  # type: ignore[no-untyped-call]
        kind, _, rest = name.partition("/")
        numbers = array(TYPECODES[tensor["dtype"]], bytes(tensor["data"]))
        if kind == "rng":
            state.streams[rest] = tuple(numbers)
        elif kind == "optim":
            slot, _, weight = rest.partition("/")
            state.slots.setdefault(slot, {})[weight] = list(numbers)
        else:
            rows, columns = tensor["shape"]
            state.shapes[name] = rows, columns
            state.weights[name] = list(numbers)
    return state


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: after a crash, also of the machine, it is the old or the new one."""
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Writes several files of one folder, each atomically, with one sync of the folder."""
    for path, content in contents.items():
        beside = path.with_name(f".{path.name}.new")
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    folder = os.open(next(iter(contents)).parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the renames durable
    finally:
        os.close(folder)


def _spec(shape: tuple[int, ...], buffer: "array[Any]") -> safetensors.TensorSpec:
    """A tensor that points into `buffer`, which must outlive it."""
    pointer, length = buffer.buffer_info()
    dtype = {"d": "float64", "q": "int64"}[buffer.typecode]
    size = length * buffer.itemsize
    return safetensors.TensorSpec(dtype=dtype, shape=list(shape), data_ptr=pointer, data_len=size)

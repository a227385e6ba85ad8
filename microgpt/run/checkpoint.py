"""A run's state as a safetensors file, written atomically.

Tensors: the weights under their names and the optimizer's slots under `optim/<slot>/<weight>` (F64), the
random generators under `rng/<purpose>` (I64). The metadata holds the step, the seconds of training,
`best`, the step and loss of the best evaluation if it is kept, `signature`, that of the run, and
`sha256`, the digest of all this. Files of earlier versions lack the signature, or both.
"""

import json
import os
import re
from array import array
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import safetensors

from microgpt.core.events import Checkpointed
from microgpt.run.reading import BadRecord, read_bytes
from microgpt.terminal import complain

NAME = re.compile(r"step-(\d+)\.safetensors")
TYPECODES = {"F64": "d", "I64": "q"}
DIGEST = "sha256"  # the key of the digest in the metadata
UNREADABLE = (ValueError, KeyError, TypeError, safetensors.SafetensorError)
SIGNATURE = "signature"  # the key of the run's signature
FACTS, PERHAPS = {"step", "seconds"}, {"best", SIGNATURE, DIGEST}  # all keys
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW  # not what a link leads to
WITHOUT = "not a state of this run; without this file, an earlier one is taken"
Tensors: TypeAlias = Mapping[str, tuple[tuple[int, ...], "array[Any]"]]  # name -> shape, numbers


class BadCheckpoint(BadRecord):
    """A file that is not a whole checkpoint, or not one of its run."""


class Foreign(BadRecord):
    """A whole checkpoint of another run."""


def step_of(file: Path) -> int | None:
    """The step in a checkpoint's name; None for another file."""
    found = NAME.fullmatch(file.name)
    return int(found[1]) if found else None


def write_checkpoint(path: Path, state: Checkpointed, signature: str | None = None) -> None:
    """Writes `state`, of the run with this signature if it is of any, to `path`, atomically."""
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
    if signature:
        metadata[SIGNATURE] = signature
    write_tensors(path, metadata, numbers)


def write_tensors(path: Path, metadata: Mapping[str, str], numbers: Tensors) -> None:
    """Writes a safetensors file with a digest of its content, atomically."""
    whole = {**metadata, DIGEST: digest(metadata, numbers)}
    tensors = {name: _spec(shape, buffer) for name, (shape, buffer) in numbers.items()}
    write_whole(path, safetensors.serialize(tensors, whole))


def digest(metadata: Mapping[str, str], tensors: Tensors) -> str:
    """sha256 of a checkpoint's facts and of the name, type, shape and numbers of each tensor."""
    facts = {key: metadata[key] for key in sorted(metadata) if key != DIGEST}
    found = sha256(json.dumps(facts).encode())
    for name, (shape, numbers) in sorted(tensors.items()):
        found.update(json.dumps([name, numbers.typecode, shape]).encode())
        found.update(numbers)
    return found.hexdigest()


def read_checkpoint(path: Path, signatures: Collection[str] = ()) -> Checkpointed:
    """Reads the state from `path`, of the run with one of these signatures if any are given.

    A line says if the file has no digest, or no signature to compare. Raises BadCheckpoint, Foreign.
    """
    try:
        metadata, tensors = parse_tensors(read_bytes(path))
        state = _state(metadata, tensors)
    except BadRecord as error:
        raise BadCheckpoint(path, error.problem) from error
    except UNREADABLE as error:
        raise BadCheckpoint(path, f"is not a complete checkpoint: {error}") from error
    known = metadata.get(SIGNATURE)
    if DIGEST not in metadata:
        complain(f"{path}: an earlier version wrote it, without a digest: damage would not show")
    elif metadata[DIGEST] != digest(metadata, tensors):
        raise BadCheckpoint(path, "is damaged: its content is not that of its sha256")
    elif signatures and not known:
        complain(f"{path}: an earlier version wrote it, without the signature of its run")
    if signatures and known and known not in signatures:
        raise Foreign(path, f"is of a run with another signature, {known[:12]}: {WITHOUT}")
    return state


def parse_tensors(content: bytes) -> tuple[dict[str, str], Tensors]:
    """The metadata and the tensors of a file. Raises one of UNREADABLE."""
    # First, since it checks the header, in which JSON could be nested too deeply for Python.
    listed = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    tensors = {
        name: (tuple(tensor["shape"]), array(TYPECODES[tensor["dtype"]], bytes(tensor["data"])))
        for name, tensor in listed
    }
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata, tensors


def _state(metadata: Mapping[str, str], tensors: Tensors) -> Checkpointed:
    if metadata.keys() - PERHAPS != FACTS:
        raise ValueError(f"its metadata are {', '.join(sorted(metadata))}")
    best = json.loads(metadata["best"]) if "best" in metadata else None
    step, seconds = int(metadata["step"]), float(metadata["seconds"])
    state = Checkpointed(step, {}, {}, {}, {}, seconds, (best[0], best[1]) if best else None)
    for name, (shape, numbers) in tensors.items():
        kind, _, rest = name.partition("/")
        if numbers.typecode != ("q" if kind == "rng" else "d"):
            raise ValueError(f"{name} is of another type")
        if kind == "rng":
            state.streams[rest] = tuple(numbers)
        elif kind == "optim":
            slot, _, weight = rest.partition("/")
            state.slots.setdefault(slot, {})[weight] = list(numbers)
        else:
            rows, columns = shape
            state.shapes[name] = rows, columns
            state.weights[name] = list(numbers)
    for name, (shape, _) in tensors.items():
        owner = name.split("/", 2)[-1]
        if name.startswith("optim/") and state.shapes.get(owner) != shape:
            raise ValueError(f"{name} has not the shape of {owner}")
    return state


def being_written(name: str) -> str:
    """What a file is called until all of it is written."""
    return f".{name}.new"


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: after a crash, also of the machine, it is the old or the new one."""
    write_all({path: content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Writes several files of one folder, each atomically, with one sync of the folder."""
    for path, content in contents.items():
        beside = path.with_name(being_written(path.name))
        with os.fdopen(os.open(beside, NEW, 0o666), "wb") as file:
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

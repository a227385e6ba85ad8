"""Self-check: a small step on the native and the vector engine must give the same bits.

It takes 10 ms, so success is recorded in the cache, for this library and this vector engine. If
either changes, the check is repeated.
"""

import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from struct import pack

import microgpt.core.engine
import microgpt.vector
from microgpt.core import exact
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.engine.shapes import Rows
from microgpt.native.library import folder, library, loaded_from, private
from microgpt.native.operations import NativeEngine
from microgpt.native.tape import functions
from microgpt.vector.engine import VectorEngine

POINTS = (-746.0, -745.2, -709.0, -600.5, -1e-300, 5e-324, 0.3, 17.0, 599.9, 709.7, 710.0)
T, N, HEADS = 5, 20, 4  # tokens, width, heads


def has_exact_bits() -> bool:
    """Whether the library passes the self-check. Raises Unavailable."""
    library()
    try:
        note = private(folder()) / f"{_state(loaded_from())}.checked"
        if note.exists():
            return True
    except (OSError, RuntimeError):  # the library was a temporary file; there is no home folder
        return agrees()
    if good := agrees():
        _note(note)
    return good


def agrees() -> bool:
    """Whether a small step and the elementary functions are bit-identical to the vector engine's."""
    some = [3 * x for x in numbers(1, 64, 0)[0]]
    above = [abs(x) for x in some]
    return (
        functions("exp", POINTS) == [exact.exp(x) for x in POINTS]
        and functions("exp_row", some) == [exact.exp(x) for x in some]
        and functions("log", above) == [exact.log(x) for x in above]
        and functions("tanh", some) == [exact.tanh(x) for x in some]
        and functions("pow", above, 1.5) == [exact.pow(x, 1.5) for x in above]
        and step(NativeEngine()) == step(VectorEngine())
    )


def step(ops: Engine) -> bytes:
    """Forward, backward and Adam, through every operation that the library implements separately."""
    rows = {"x": T, "gain": 1, "q": N, "k": N // 2, "v": N // 2, "up": N, "down": N}
    w = ops.parameters({name: numbers(n, N, i) for i, (name, n) in enumerate(rows.items())})
    h = ops.rmsnorm(ops.gather(w["x"], [0, 3, 3, 1, 3]), 1e-5) * w["gain"]
    q, k, v = (ops.linear(h, w[name]) for name in "qkv")
    bias = numbers(HEADS, T, len(rows))
    h = h + ops.attention(q, k, v, n_head=HEADS, spans=[(0, 2), (2, T)], bias=bias)
    m = ops.linear(ops.relu(ops.linear(h, ops.rmsnorm(w["up"], 1e-5))), w["down"])
    y = ops.tanh(m) * ops.exp(h) / (m**2 + 1) ** 0.3 + ops.log(ops.softmax(m))
    loss = ops.mean(ops.cross_entropy(y, [1, 5, 0, 2, 4]) * (ops.row_sum(y) * ops.row_max(y)))
    ops.backward(loss)
    gradients, zeros = ops.gradients(w), ops.zeros_like(w)
    norm = ops.global_norm(gradients)
    found: list[Matrix] = [loss, *gradients.values()]
    for name, g in gradients.items():
        p, m, v = ops.detached(w[name]), zeros[name], g * g
        found += ops.adam(p, g, m, v, beta1=0.9, beta2=0.99, rate=0.01, eps=1e-8)
    flats = ops.flat(dict(_named(found))).values()
    return b"".join(pack(f"<{len(flat)}d", *flat) for flat in [*flats, [norm]])


def numbers(rows: int, n: int, seed: int) -> Rows:
    """A matrix of numbers from -1/3 to 1/3 that use all bits of the mantissa."""
    return [
        [((seed * 7919 + i * n + j) * 2654435761 % 1000003 - 500001) / 1500007 for j in range(n)]
        for i in range(rows)
    ]


def _named(matrices: list[Matrix]) -> list[tuple[str, Matrix]]:
    return [(str(i), x) for i, x in enumerate(matrices)]


def _state(file: Path) -> str:
    """The identity of the library, of the vector engine and of the check."""
    digest = sha256(file.read_bytes())
    packages = (microgpt.native, microgpt.vector, microgpt.core, microgpt.core.engine)
    for package in packages:
        for source in sorted(Path(package.__path__[0]).glob("*.py")):
            state = source.stat()
            digest.update(f"{source} {state.st_size} {state.st_mtime_ns}\n".encode())
    digest.update(sys.version.encode())
    return digest.hexdigest()[:32]


def _note(file: Path) -> None:
    """Records success; if that fails, the next process repeats the check."""
    with suppress(OSError):
        file.touch()

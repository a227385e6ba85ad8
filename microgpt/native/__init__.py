"""The native engine: records operations in Python, computes in C; bit-identical to the vector engine."""

import sys
from functools import cache

from microgpt.core.engine.base import Engine
from microgpt.native.check import has_exact_bits
from microgpt.native.library import Unavailable
from microgpt.native.operations import NativeEngine
from microgpt.vector.engine import VectorEngine

__all__ = ["NativeEngine", "engine", "problem"]

INSTEAD = "using engine=vector, the same bits, some 60 times slower"


def engine() -> Engine:
    """A native engine; if it is unavailable, warns once and returns a vector engine."""
    return NativeEngine() if _usable() else VectorEngine()


@cache
def problem() -> str:
    """Why the native engine is unavailable, in one line; empty if it is available."""
    try:
        return "" if has_exact_bits() else "the compiled library has other bits than engine=vector"
    except Unavailable as error:
        return str(error)


@cache
def _usable() -> bool:
    if why := problem():
        advice = "; apt install gcc" if why == "no C compiler" else ""
        print(f"microgpt: {why}: {INSTEAD}{advice}", file=sys.stderr)
    return not why

"""The engine that records in Python and computes in C."""

from microgpt.native.recording import NativeEngine

__all__ = ["NativeEngine"]

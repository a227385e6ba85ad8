"""The NumPy engine: the contract of `core.engine.base` on arrays, one node an operation.

At n_embd 16 a step has about a hundred NumPy calls, of which most cost more than what they compute.
So what counts is their number and their kind: the hot derived operations are fused, forward and
backward; weights and gradients lie in one flat buffer each, and an update rule that is known here is
a dozen calls. Where code looks odd for it, a comment gives the figures: medians on one core of an
AMD EPYC, NumPy 2.4, OpenBLAS 0.3.31.
"""

from microgpt.accelerate.engine import NumpyEngine

__all__ = ["NumpyEngine"]

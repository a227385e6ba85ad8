"""The NumPy engine: each operation is a node of the graph, and each matrix an array.

At n_embd 16 a step makes about a hundred NumPy calls, and in most the overhead exceeds the
arithmetic. So the number of calls is kept small: the hot derived operations are fused, forward and
backward; weights and gradients are views of one flat buffer each, and Adam takes a dozen calls.
Figures in comments are medians on one core of an AMD EPYC with NumPy 2.4 and OpenBLAS 0.3.31.
"""

from microgpt.accelerate.engine import NumpyEngine

__all__ = ["NumpyEngine"]

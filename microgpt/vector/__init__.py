"""The vector engine: pure Python, where each matrix is a node of the graph."""

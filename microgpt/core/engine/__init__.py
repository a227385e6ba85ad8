"""Engines compute matrices and their gradients; `base` is the interface."""

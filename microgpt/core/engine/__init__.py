"""Engines: what computes rows of numbers and their gradients. `base` is the contract."""

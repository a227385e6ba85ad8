"""Optimizers, written in the operations of an engine, one per file; `base` is the interface."""

"""Activations, one per file."""

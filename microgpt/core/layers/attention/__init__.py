"""Attention layers, one per file."""

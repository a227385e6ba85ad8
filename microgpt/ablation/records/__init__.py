"""Reads sweeps and runs from a store."""

"""Initialisations, one per file."""

"""Trains recorded runs again and recomputes what was said of them."""

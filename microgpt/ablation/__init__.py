"""Compares, reports, verifies and forks recorded runs."""

"""Output heads, one per file."""

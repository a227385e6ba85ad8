"""MLPs, one per file."""

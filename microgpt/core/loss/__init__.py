"""Training objectives, one per file; `base` is the interface."""

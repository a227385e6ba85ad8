"""Models, one per file; `base` is the interface."""

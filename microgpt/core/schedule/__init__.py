"""Learning-rate schedules, one per file; `base` is the interface."""

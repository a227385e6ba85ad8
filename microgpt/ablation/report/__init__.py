"""The report of a sweep: its lock, page, figures, and the gallery of all experiments."""

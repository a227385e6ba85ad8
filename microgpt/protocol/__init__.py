"""What an experiment is asked and claims, as it is written down and frozen before its first run."""

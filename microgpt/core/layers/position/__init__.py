"""The model's positions, one file a variant."""

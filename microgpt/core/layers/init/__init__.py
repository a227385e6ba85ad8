"""The model's initial weights, one file a variant."""

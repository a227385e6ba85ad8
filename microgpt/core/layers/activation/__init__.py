"""The model's activations, one file a variant."""

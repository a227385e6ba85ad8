"""The model's output heads, one file a variant."""

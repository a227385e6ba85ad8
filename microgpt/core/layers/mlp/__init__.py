"""The model's feed-forward blocks, one file a variant."""

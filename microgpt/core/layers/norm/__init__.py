"""The model's normalisations, one file a variant."""

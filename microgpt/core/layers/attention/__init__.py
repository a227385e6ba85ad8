"""The model's attentions, one file a variant."""

"""The arrangements of a block, one file a variant."""

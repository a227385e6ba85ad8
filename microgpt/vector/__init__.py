"""The fast engine of the standard library: one matrix, one node."""

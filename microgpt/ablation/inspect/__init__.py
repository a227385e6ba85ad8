"""A look inside a run: what its model does with a text, as one page."""

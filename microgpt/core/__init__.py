"""The GPT, in the standard library alone. The README's walk gives an order to read the files in."""

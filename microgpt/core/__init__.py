"""The GPT. Standard library alone; read the files in the order that the README's walk gives."""

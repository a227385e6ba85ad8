"""The arguments of commands, by subject; `cli.py` has the others."""

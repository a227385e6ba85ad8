"""Random streams: a generator for each purpose, such as `data` or `init/wte`."""

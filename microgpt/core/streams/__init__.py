"""Where randomness comes from: a purpose, such as `data` or `init/wte`, to its generator."""

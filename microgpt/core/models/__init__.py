"""Models, one file each; `base` is the contract."""

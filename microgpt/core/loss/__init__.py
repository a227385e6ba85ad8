"""What training minimises, one file each; `base` is the contract."""

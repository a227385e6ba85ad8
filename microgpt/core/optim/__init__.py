"""Update rules on plain floats, one file each; `base` is the contract."""

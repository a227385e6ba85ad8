"""Update rules in the operations of an engine, one file each; `base` is the contract."""

"""Learning rates over the steps of a run, one file each; `base` is the contract."""

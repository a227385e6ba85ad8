"""The parts of the model, a folder a part and a small file a variant; `base` is the contract."""

"""The layers of the model: a folder for each part, a file for each variant; `base` is the interface."""

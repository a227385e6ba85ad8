"""A workbench for questions to a small GPT: pure-Python core, Hydra configs, MLflow tracking."""

__version__ = "0.1.0"

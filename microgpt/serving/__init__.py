"""A run's model in MLflow: registered, loaded and served."""

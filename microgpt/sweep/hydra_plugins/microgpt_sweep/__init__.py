"""Plugins that Hydra finds: it takes none from elsewhere."""

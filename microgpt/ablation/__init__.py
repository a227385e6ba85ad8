"""Evidence: sweeps read from the store, compared by paired statistics, reported, locked."""

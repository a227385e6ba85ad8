"""What a lock holds: a sweep, its protocol, its figures, and what came before."""

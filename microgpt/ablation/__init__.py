"""What the store says of runs: compared, verified, forked, reported."""

"""Things that a plant has many of, simulated, for tests and benches that need more than can be run."""

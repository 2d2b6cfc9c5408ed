"""Does the watch find faults, name their cause, and keep quiet on healthy runs? See `python -m benchmarks.watch`."""

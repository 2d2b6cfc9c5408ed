"""Whether a model can be trusted: comparison with simple models."""

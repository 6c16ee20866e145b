"""The graph of a model for other programs."""

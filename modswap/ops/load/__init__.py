"""Load the weights and model of a checkpoint."""

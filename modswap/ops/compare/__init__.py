"""Compare two checkpoints or models, without building anything of a file."""

"""Read and write files: recipes and checkpoints."""

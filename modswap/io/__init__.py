"""Files in and out: recipes and checkpoints."""

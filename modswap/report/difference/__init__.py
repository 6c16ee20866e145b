"""The differences between two checkpoints, for people and for programs."""

"""A second way for GPUs: Triton programs that work on a whole map, and the choice between ways."""

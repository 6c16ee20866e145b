"""Try input sizes: the sweep and its calls."""

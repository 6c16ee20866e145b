"""Run a site's old and new module alone, on small random tensors."""

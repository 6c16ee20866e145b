"""Say how a model's own source looks after a swap, and prove it."""

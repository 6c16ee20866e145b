"""Agreement of a model with its original: what is measured, and further rows to judge it by."""

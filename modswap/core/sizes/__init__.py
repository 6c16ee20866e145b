"""The rule for the input sizes that a model takes, found from trials."""

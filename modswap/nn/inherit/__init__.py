"""Weights of one module in the form of another that computes the same."""

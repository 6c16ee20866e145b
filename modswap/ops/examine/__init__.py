"""Examine a swap beyond its shapes: one file an examination."""

"""Fit a class that a recipe names by trying it on shapes."""

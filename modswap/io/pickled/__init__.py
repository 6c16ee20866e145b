"""Pickles read and written as data; no class that they name is imported."""

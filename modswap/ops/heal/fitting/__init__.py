"""Fits of new modules by gradient steps: each at its site, then through the whole model."""

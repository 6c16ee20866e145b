"""Trace a forward pass: every module's calls, layouts and token grids."""

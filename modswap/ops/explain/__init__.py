"""Explain a forward pass line by line: record it, time it, check it, name its axes."""

"""Layers of new modules that are folded into others: the search, the weights, the proof."""

"""Measure FLOPs, memory and time of a model."""

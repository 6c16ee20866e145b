"""Samples where the user has no data: pictures, tokens or numbers, drawn from a seed."""

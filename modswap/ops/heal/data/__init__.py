"""Samples from the data that a user gives: files, iterables, or drawn ones."""

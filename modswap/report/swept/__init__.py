"""A sweep in reports: a table, JSON and a plot."""

"""Print changed source."""

"""A forward pass explained line by line, as plain data."""

"""Plain data and decisions; imports the standard library and pydantic, no torch."""

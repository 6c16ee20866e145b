"""Read recipes in YAML with the place of every key, and edit them line by line."""

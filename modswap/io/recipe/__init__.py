"""Recipes: YAML read with the place of every key, and edited line by line."""

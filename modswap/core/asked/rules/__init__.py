"""The rules of a recipe: what is selected, what goes in, how it starts."""

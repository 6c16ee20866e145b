"""A dummy input that a model takes, where nobody gave one: the one owner of how it is found."""

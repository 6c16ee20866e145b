"""The steps that touch a model, and the use cases that string them together."""

"""A starter recipe for a model: its likely targets, and a rule that works for them."""

"""The parts of a recipe that its files share, and those of rules."""

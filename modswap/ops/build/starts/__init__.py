"""The start of the weights of new modules: initialised, inherited, or taken from a donor."""

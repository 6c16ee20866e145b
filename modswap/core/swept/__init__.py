"""A sweep: where in a model which new module pays, measured."""

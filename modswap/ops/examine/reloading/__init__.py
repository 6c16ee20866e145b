"""Load a written file elsewhere: in a fresh process, and by the library of the model."""

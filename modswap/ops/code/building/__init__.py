"""Read how a model is built: by which call, of which source, with which new modules."""

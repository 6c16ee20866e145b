"""The kind of a checkpoint, found from its bytes and keys."""

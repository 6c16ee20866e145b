"""Recognise the format of a checkpoint from its bytes and keys."""

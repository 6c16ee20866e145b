"""Folders of weights, one file or shards with an index."""

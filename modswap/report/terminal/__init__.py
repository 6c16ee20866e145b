"""Parts of the report at a terminal."""

"""The terminal browser of `modswap tree --interactive`; it needs Textual."""

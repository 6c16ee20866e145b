"""Export a swapped model in several ways, and read torch's messages."""

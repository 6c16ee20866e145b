"""Text for people: near names, printable characters."""

"""Making text from files safe to print."""

import re

# control characters, escape sequences other than colours, and marks that turn text around
_WILD = re.compile(
    "\x1b(?!\\[[0-9;]*m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]"
)


def tame(text: str) -> str:
    """Return a text without characters that move the cursor or change the terminal."""
    return _WILD.sub("\ufffd", text)

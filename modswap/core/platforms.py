"""The systems that modswap runs on."""

import os

SYSTEM = os.name
WINDOWS = "nt"


def refusal() -> str:
    """Return the reason why modswap does not run on this system; empty where it does."""
    if SYSTEM != WINDOWS:
        return ""
    return (
        "modswap runs on Linux and macOS: Windows lacks the calls by which it writes files as a "
        "whole and measures free space; run it in WSL"
    )

"""Work for worker processes that imports no torch, so that the processes start at once."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from modswap.core.progress import Progress


def work(argument: str, progress: Progress) -> str | int:
    """Do what an argument says: die, leave, fail, sleep, write, or return it with the process."""
    progress(f"at work on {argument}")
    if argument == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if argument == "leave":
        sys.exit(5)
    if argument == "fail":
        raise KeyError(argument)
    if argument == "talk":
        sys.stdout.write("HELLO\n")
    if argument.startswith("sleep"):
        handle, _ = tempfile.mkstemp()
        os.close(handle)
        Path(argument.removeprefix("sleep "), f"{os.getpid()}.pid").touch()
        time.sleep(60)
    return os.getpid() if argument == "pid" else argument

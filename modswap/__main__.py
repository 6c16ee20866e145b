"""Entry point: `modswap` and `python -m modswap`."""

import gc
import signal
import sys
from typing import Any

from modswap.core.platforms import refusal

_STOPPED = 130
_WRONG_CALL = 2


def main() -> None:
    """Run the command, in a child process where there are any, and end with its exit code."""
    if reason := refusal():
        sys.stderr.write(f"error: {reason}\n")
        sys.exit(_WRONG_CALL)
    try:
        run = _command()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before the command itself listens to it
        code = _STOPPED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done, and Python clears up
    gc.disable()  # the interpreter's end looks for garbage by itself, and once is enough
    gc.unfreeze()  # and it looks through everything: libraries in C++ complain of what is left
    sys.exit(code)


def _command() -> Any:
    """Return the function that runs a command, in the child process; the parent ends in here."""
    from modswap.cli.supervisor import THRESHOLDS, supervise

    supervise(sys.argv[1:])
    gc.set_threshold(*THRESHOLDS)
    from modswap.cli.streams import fill_closed_streams  # the parent needs none of it

    fill_closed_streams()
    from modswap.cli.app import run

    return run


if __name__ == "__main__":
    main()

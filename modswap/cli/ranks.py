"""The terminal of several processes that `torchrun` started: one prints, one says why all end."""

import os
import time
import warnings

from modswap.core.errors import UsageError
from modswap.core.launch import launch, shared_folder

BY_TORCHRUN = (
    "torchrun stopped this process (SIGTERM): another one ended, or torchrun itself was stopped",
    "look at torchrun's own report for the rank that ended first, and go on with --resume",
)
_CLAIM = "modswap.said"
_PRINTED_SECONDS = 0.3  # in which the process that claimed it has printed


def prints() -> bool:
    """Return whether this process prints results and steps."""
    return launch().first


def silence_warnings() -> None:
    """Show no warnings of the processes that print nothing, nor those of torch's C++ in any.

    Torch must not have been imported yet.
    """
    if launch().world > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if not prints():
        warnings.simplefilter("ignore")


def may_complain() -> bool:
    """Return whether this process says why the run fails: the first to ask on each machine."""
    folder = shared_folder()
    if folder is None:
        return True
    mine = folder / f"{_CLAIM}.{os.getpid()}"
    try:
        mine.touch()
        os.link(mine, folder / _CLAIM)
    except FileExistsError:
        if (folder / _CLAIM).samefile(mine):
            return True
        time.sleep(_PRINTED_SECONDS)  # torchrun stops all when the first one ends
        return False
    except OSError:
        return True
    return True


def refuse_others(command: str) -> None:
    """Refuse a command whose work cannot be shared.

    Raises:
        UsageError: If it is one.
    """
    count = launch().world
    if count > 1 and command != "heal":
        what = f"torchrun started {count} processes, and only `modswap heal` shares its work"
        raise UsageError(what, command, "run it without torchrun")

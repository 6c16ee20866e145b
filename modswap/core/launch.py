"""The place of this process among those that `torchrun` started, from the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_ERRORS = "TORCHELASTIC_ERROR_FILE"


class Launch(NamedTuple):
    """The number of this process and of all, and the same among those of this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0
    beside: int = 1

    @property
    def first(self) -> bool:
        """Return whether it is the one that prints and writes."""
        return self.rank == 0


def launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return the place of this process; that of a single one where `torchrun` did not start it."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Launch(*(int(environment[name]) for name in names))


def shared_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder that `torchrun` made for the processes of this machine; None if it has not.

    It is another one for each start.
    """
    if launch(environment).world == 1 or not environment.get(_ERRORS):
        return None
    return Path(environment[_ERRORS]).parent.parent

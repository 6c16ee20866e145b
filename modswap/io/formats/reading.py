"""Read a checkpoint by the row of its format."""

import itertools
from pathlib import Path

from torch import Tensor

from modswap.core.asked.job import Policy
from modswap.io.formats.choice import recognised
from modswap.io.formats.container import Container, named_tensors
from modswap.io.raw.memory import enough_memory
from modswap.io.recognise.look import look_at


def read(file: Path, policy: Policy) -> Container:
    """Read a checkpoint, recognised by its content; nothing in it is executed.

    Raises:
        CheckpointError: If it cannot be read.
        UnsafeError: If it would have to build a class that `policy` does not allow.
    """
    look = look_at(file)
    with enough_memory(file):
        return recognised(look).load(look, policy)


def tensors(container: Container) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint by a dotted name, the optimizer's included.

    Where two keys give one name, as 0 and "0" do, the later name has a number appended.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in named_tensors(container.payload):
        numbers = itertools.count(2)
        unique = name
        while unique in found:
            unique = f"{name}#{next(numbers)}"
        found[unique] = tensor
    return found

"""The request of a command, before any file is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modswap.core.asked.recipe import Recipe, TensorInput


@dataclass(frozen=True, slots=True)
class Policy:
    """The permissions for building a checkpoint's objects.

    Args:
        allow: Classes or functions, `package.module.Class` or `package.module.*`.
        aliases: Classes that moved since the file was written, (old, new).
        trust: Whether torch's full unpickler may run any code that the file holds.
        checksum: Whether a file's bytes are compared with its checksums before they are used.
        most: Bytes of weights that are read where they cannot be mapped; of more only the shapes
            are known. None for all of them.
    """

    allow: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    trust: bool = False
    checksum: bool = True
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that a command works on.

    Args:
        file: The checkpoint.
        policy: Permissions for building its objects.
        factory: `package.module:callable` or `file.py:callable` from the command line, or None.
        inputs: One dummy call from the command line; empty: the recipe's.
    """

    file: Path
    policy: Policy = Policy()
    factory: str | None = None
    inputs: "tuple[TensorInput, ...]" = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A swap to be done or checked.

    Args:
        subject: The model.
        recipe: The rules of the swap.
        out: File or folder to write; None for a check or a dry run.
        force: Whether an existing `out` may be replaced.
        thorough: Whether everything is examined, as `verify.thorough` in the recipe says.
        max_memory: Bytes that a dummy pass may take by prediction; None: the memory of the machine.
    """

    subject: Subject
    recipe: "Recipe"
    out: Path | None = None
    force: bool = False
    thorough: bool = False
    max_memory: int | None = None

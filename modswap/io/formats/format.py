"""The row of a checkpoint format, and the new modules that a format puts into a file."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modswap.core.seen.tree import Tree
from modswap.io.pickled.optimizers import Parameters
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Records, Rewriting

if TYPE_CHECKING:
    from torch import nn

    from modswap.core.asked.job import Policy
    from modswap.io.formats.container import Container, Slot
    from modswap.io.formats.survey import Survey
    from modswap.io.raw.checksums import Checksums


@dataclass(frozen=True, slots=True)
class Swap:
    """New modules for one slot of a checkpoint, each with its paths, in the dtype of the slot.

    `more` holds beginnings of further tensor names to remove.
    """

    slot: "Slot"
    modules: "tuple[tuple[tuple[str, ...], nn.Module], ...]"
    more: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the names of all tensors that are removed."""
        place = self.slot.beginning
        own = tuple(f"{place}{path}." for paths, _ in self.modules for path in paths)
        return (*own, *self.more)

    @property
    def weights(self) -> dict[str, Any]:
        """Return the new modules' state, by the names that it has in the slot."""
        return {
            f"{self.slot.prefix}{path}.{name}": value
            for paths, module in self.modules
            for path in paths
            for name, value in module.state_dict().items()
        }


@dataclass(frozen=True, slots=True)
class Swaps:
    """The new modules of every slot, and the parameters of the model before and after."""

    slots: tuple[Swap, ...]
    parameters: Parameters

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the names of all tensors that are removed."""
        return tuple(prefix for swap in self.slots for prefix in swap.prefixes)


@dataclass(frozen=True, slots=True)
class Lazy:
    """A function `package.module:name` that is imported when it is first called.

    Reading and writing need torch; recognising and outlining do not, and the table serves both.
    """

    target: str

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)

    @property
    def function(self) -> Callable[..., Any]:
        """Return the function."""
        module, _, name = self.target.partition(":")
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found


@dataclass(frozen=True, slots=True)
class Format:
    """A checkpoint format: all that the rest of the program knows of it.

    Args:
        name: As reports print it.
        recognise: Return whether a file is of this format, by its content.
        load: Read a file.
        save: Write a payload to a file, with modswap's records and the file's own metadata; None
            where a checkpoint is only made from another one, by `rewrite`.
        outline: Return the module tree of a file read as data, without torch; None where only
            `load` knows it. A format without `outline` is always loaded.
        survey: Return the places, sites and sizes of a file read as data, without torch; raise
            `UnreadableError` where the file cannot be read as data.
        rewrite: Prepare the same file with other modules in it, read as data; raise
            `UnreadableError` where this cannot be done, and the payload is saved instead.
        endings: File name endings that ask for it; empty if only files of it are written as it.
        writes_as: Name of the format that a file of it is written in, where OUT has no ending;
            its own where empty.
        weights_only: Whether it can hold nothing but named tensors.
        folder: Whether it is a folder.
        checksums: Whether it is a zip whose records have checksums.
        always_summed: Whether every file of it has checksums of its own.
        known: Return the checksums that a file of it holds of its own bytes, without torch; None
            where it has room for none.
        traced: Whether it holds a graph, for which a swapped model has to be exported again.
        left_out: The note where parts of it have no room in other formats; empty for none.
    """

    name: str
    recognise: Callable[[Look], bool]
    load: "Callable[[Look, Policy], Container]"
    save: Callable[[Any, Path, Records, dict[str, str]], None] | None = None
    outline: Callable[[Look], Tree | None] | None = None
    survey: "Callable[[Look], Survey] | None" = None
    rewrite: "Callable[[Container, Swaps, Policy], Rewriting] | None" = None
    endings: tuple[str, ...] = ()
    writes_as: str = ""
    weights_only: bool = False
    folder: bool = False
    checksums: bool = False
    always_summed: bool = False
    known: "Callable[[Look], Checksums] | None" = None
    traced: bool = False
    left_out: str = ""

    @property
    def code_free(self) -> bool:
        """Return whether modules in it can be swapped without building anything of the file."""
        return self.survey is not None and self.rewrite is not None

"""The row of a checkpoint format, and the new modules that a format puts into a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modswap.core.kept.ledger import Changes
from modswap.core.seen.tree import Tree
from modswap.io.pickled.optimizers import Parameters
from modswap.io.recognise.look import Look
from modswap.io.rewriting import NONE_REMOVED, Records, Removal, Rewriting

if TYPE_CHECKING:
    from torch import nn

    from modswap.core.asked.job import Policy
    from modswap.io.formats.container import Container, Slot
    from modswap.io.formats.contents import Contents
    from modswap.io.formats.survey import Survey
    from modswap.io.raw.checksums import Checksums


@dataclass(frozen=True, slots=True)
class FileNames:
    """The names of a swap's tensors in a file that has other names than the model.

    They are names in a slot, without its prefix: `gone` of the tensors that are removed, `new` of
    the new ones by their names in the model, `heirs` as in `Removal`.
    """

    gone: frozenset[str]
    new: Mapping[str, str]
    heirs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Swap:
    """New modules for one slot of a checkpoint, each with its paths, in the dtype of the slot.

    `names` are those of the slot where they differ from the model's; `more` are further tensors to
    remove, by their names in the payload; `taken` are the paths of modules that were put in beside
    others, and are taken out.
    """

    slot: "Slot"
    modules: "tuple[tuple[tuple[str, ...], nn.Module], ...]"
    more: Removal = NONE_REMOVED
    names: FileNames | None = None
    taken: tuple[str, ...] = ()

    @property
    def removal(self) -> Removal:
        """Return the tensors that are removed, by their names in the payload."""
        place, names, more = self.slot.beginning, self.names, self.more
        if names is None:
            paths = [path for paths, _ in self.modules for path in paths]
            own = tuple(f"{place}{path}." for path in (*paths, *self.taken))
            return Removal((*own, *more.prefixes), more.names, more.heirs)
        gone = frozenset(f"{place}{name}" for name in names.gone) | more.names
        heirs = {f"{place}{alias}": f"{place}{name}" for alias, name in names.heirs.items()}
        return Removal(more.prefixes, gone, heirs | dict(more.heirs))

    @property
    def weights(self) -> dict[str, Any]:
        """Return the new modules' state, by the names that it has in the slot."""
        known = self.names.new if self.names is not None else {}
        full = {
            f"{path}.{name}": value
            for paths, module in self.modules
            for path in paths
            for name, value in module.state_dict().items()
        }
        return {f"{self.slot.prefix}{known.get(n, n)}": value for n, value in full.items()}


@dataclass(frozen=True, slots=True)
class Swaps:
    """The new modules of every slot, and the parameters of the model before and after."""

    slots: tuple[Swap, ...]
    parameters: Parameters

    @property
    def removal(self) -> Removal:
        """Return the tensors that are removed from all slots."""
        parts = [swap.removal for swap in self.slots]
        return Removal(
            tuple(prefix for part in parts for prefix in part.prefixes),
            frozenset(name for part in parts for name in part.names),
            {alias: name for part in parts for alias, name in part.heirs.items()},
        )

    @property
    def changes(self) -> Changes:
        """Return the tensors that the swap may change, by their names in the payload."""
        removal = self.removal
        new = (
            f"{s.slot.beginning}{n}" for s in self.slots if s.names for n in s.names.new.values()
        )
        return Changes(removal.prefixes, names=removal.names.union(new))


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
        contents: Return everything in a file read as data, without torch, each tensor by the place
            of its bytes; raise `UnreadableError` where the file cannot be read as data.
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
    contents: "Callable[[Look], Contents] | None" = None
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

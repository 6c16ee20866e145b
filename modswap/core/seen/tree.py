"""A model's module tree as plain data."""

from dataclasses import dataclass

from modswap.core.seen.site import Call


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A module of the tree."""

    path: str  # dotted name; empty for the model itself
    class_name: str
    params: int  # parameter elements of the module and all below it, shared ones once
    nbytes: int  # bytes of those parameters and of the buffers
    alias_of: str = ""  # path under which the same module object was listed first, or empty
    calls: tuple[Call, ...] = ()  # its calls in a dummy pass; empty without one
    # beginnings of its tensors' names in the file, where they are others than its path
    stored_as: tuple[str, ...] = ()
    # its own tensors that another module holds too: their names, and the first name of each
    ties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name that a file's pickle needs, and that is allowed only by an option."""

    name: str  # dotted name
    verdict: str  # the reason in words
    option: str  # option of the command line that admits it; empty where only `--trust` does


@dataclass(frozen=True, slots=True)
class Tree:
    """The whole tree, in the order of `named_modules`, aliases included."""

    file: str  # the checkpoint as the user gave it
    format: str  # name of the row of the table of formats
    rows: tuple[TreeRow, ...]  # one per path; the first is the model itself
    traced: bool = False  # whether a dummy pass was run
    notes: tuple[str, ...] = ()
    wanted: tuple[Wanted, ...] = ()  # names that would have to be allowed for the file to be loaded

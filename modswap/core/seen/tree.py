"""A model's module tree as plain data."""

from dataclasses import dataclass

from modswap.core.seen.site import Call


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A module of the tree.

    Args:
        path: Dotted name; empty for the model itself.
        class_name: Dotted class name.
        params: Parameter elements of the module and all below it, shared ones once.
        nbytes: Bytes of those parameters and of the buffers.
        alias_of: Path under which the same module object was listed first, or empty.
        calls: Its calls in a dummy pass; empty without one.
    """

    path: str
    class_name: str
    params: int
    nbytes: int
    alias_of: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A name that a file's pickle asks for, and that is not allowed without being asked.

    Args:
        name: Dotted name.
        verdict: The reason in words.
        option: Option of the command line that admits it; empty where only `--trust` does.
    """

    name: str
    verdict: str
    option: str


@dataclass(frozen=True, slots=True)
class Tree:
    """The whole tree, in the order of `named_modules`, aliases included.

    Args:
        file: The checkpoint as the user gave it.
        format: Name of the row of the table of formats.
        rows: One per path; the first is the model itself.
        traced: Whether a dummy pass was run.
        notes: Anything else worth knowing.
        wanted: Names that would have to be allowed for the file to be loaded.
    """

    file: str
    format: str
    rows: tuple[TreeRow, ...]
    traced: bool = False
    notes: tuple[str, ...] = ()
    wanted: tuple[Wanted, ...] = ()

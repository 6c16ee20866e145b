"""A model's module tree as plain data, and sums over its branches.

For the sums, the modules are nodes in the order of `named_modules`, a shared one once for each of
its paths. Each node has the number of its parent; the first is its own.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from modswap.core.seen.site import Call
from modswap.core.seen.values import TensorInfo

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class BareParameter:
    """A parameter that a module holds itself, beside the modules in it: `pos_embed`."""

    name: str  # in its module
    params: int  # elements
    nbytes: int


@dataclass(frozen=True, slots=True)
class OutputValues:
    """A tensor that a module put out on a real input, and what its values are.

    Args:
        call: The number of the call, from 1.
        place: Its place in the output, `0` or `logits`; empty where it is the output itself.
        info: Its shape and dtype.
        mean: Over all finite values; None where there are none.
        std: Of all finite values, as of a whole population.
        zeros: The share of values that are 0.
        nan: How many values are NaN.
        infinite: How many values are infinite.
    """

    call: int
    place: str
    info: TensorInfo
    mean: float | None
    std: float | None
    zeros: float
    nan: int = 0
    infinite: int = 0


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
    # its own parameters, where it has modules in it too and so no row of theirs
    bare: tuple[BareParameter, ...] = ()
    dtype: str = ""  # of its floating tensors and those below; several are joined by a slash
    flops: int | None = None  # of all its calls in a pass; None where none was counted
    outputs: tuple[OutputValues, ...] = ()  # on a real input, where that was asked for


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


def sums_below(
    parents: Sequence[int], held: Iterable[Iterable[tuple[Hashable, int]]]
) -> tuple[int, ...]:
    """Return the sum of sizes of the objects that each node and those below hold, each object once.

    `held` has an identity and a size of each object that a node holds itself.
    """
    sums = [0] * len(parents)
    last: dict[Hashable, int] = {}  # the last node that held an object
    for node, objects in enumerate(held):
        for identity, size in objects:
            sums[node] += size
            above = node
            while above > last.get(identity, above):
                above = parents[above]
            if identity in last:
                sums[above] -= size  # the innermost node that has both
            last[identity] = node
    for node in range(len(parents) - 1, 0, -1):
        sums[parents[node]] += sums[node]
    return tuple(sums)


def first_below(parents: Sequence[int], own: Sequence[Found | None]) -> tuple[Found | None, ...]:
    """Return the first value that is not None among those of each node and of the nodes below."""
    found = [*own]
    for node in range(len(parents) - 1, 0, -1):
        if found[node] is not None and own[parents[node]] is None:
            found[parents[node]] = found[node]
    return tuple(found)


def dtypes_below(parents: Sequence[int], own: Sequence[Iterable[str]]) -> tuple[str, ...]:
    """Return the dtypes of each node and of the nodes below as one text, `float16/float32`."""
    found = [set(names) for names in own]
    for node in range(len(parents) - 1, 0, -1):
        found[parents[node]] |= found[node]
    return tuple("/".join(sorted(names)) for names in found)

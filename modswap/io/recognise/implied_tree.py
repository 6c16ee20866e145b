"""Derive a module tree from tensor names, for files that hold weights without code."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from modswap.core.seen.tree import BareParameter, TreeRow

WEIGHTS = "the file holds weights without code: classes are unknown; name them with `--model`"
_MAX_AXES = 64  # as torch allows
_MAX_SIDE = 1 << 63
# floating buffers of torch's own layers, of transformers and Swin, and of a profiler (thop): only
# the code says what a buffer is, and these are buffers in every code that is known
_BUFFERS = frozenset(
    {
        *("running_mean", "running_var", "num_batches_tracked", "inv_freq", "attn_mask"),
        *("relative_position_index", "masked_bias", "total_ops", "total_params"),
    }
)


class TensorSize(NamedTuple):
    """The size of a tensor in a file without code."""

    numel: int  # elements
    nbytes: int
    # equal for the names of one tensor; None for a tensor with a single name
    identity: Hashable = None
    floating: bool = True  # whether its dtype takes gradients, as those of parameters do
    dtype: str = ""  # as torch calls it; empty where it is unknown


def elements(shape: Sequence[Any]) -> int | None:
    """Return the number of elements of a shape; None if no tensor can have this shape."""
    sides = all(type(side) is int and 0 <= side < _MAX_SIDE for side in shape)
    return prod(shape) if sides and len(shape) <= _MAX_AXES else None


def implied_rows(tensors: Mapping[str, TensorSize]) -> tuple[TreeRow, ...]:
    """Return a row for every dotted beginning of a tensor name.

    The names of one tensor are counted once. No parameters are buffers whose names are known, and
    tensors that take no gradients.
    """
    places = {name: tuple(_above(name)) for name in tensors}
    rows = {path: [0, 0] for path in ("", *(path for above in places.values() for path in above))}
    dtypes: dict[str, set[str]] = {path: set() for path in rows}
    counted: set[tuple[str, Hashable]] = set()
    for name, size in tensors.items():
        params = size.numel if _is_parameter(name, size) else 0
        identity = size.identity if size.numel else None  # of an empty one nothing is shared
        for path in places[name]:
            dtypes[path].update({size.dtype} - {""} if size.floating else ())
            key = (path, identity)
            if identity is None or key not in counted:
                rows[path][0] += params
                rows[path][1] += size.nbytes
                counted.add(key)
    bare, ties = _bare(tensors, rows), _ties(tensors)
    return tuple(
        TreeRow(
            path,
            "",
            params,
            nbytes,
            ties=ties.get(path, ()),
            bare=bare.get(path, ()),
            dtype="/".join(sorted(dtypes[path])),
        )
        for path, (params, nbytes) in rows.items()
    )


def _above(name: str) -> Iterator[str]:
    """Yield the dotted beginnings of a name, the empty one first."""
    yield ""
    place = name.find(".")
    while place >= 0:
        yield name[:place]
        place = name.find(".", place + 1)


def _is_parameter(name: str, size: TensorSize) -> bool:
    return size.floating and name.rpartition(".")[2] not in _BUFFERS


def _bare(
    tensors: Mapping[str, TensorSize], paths: Iterable[str]
) -> dict[str, tuple[BareParameter, ...]]:
    """Return the parameters of modules that have modules in them, by the path of the module."""
    around = {path.rpartition(".")[0] for path in paths if path}
    found: dict[str, tuple[BareParameter, ...]] = {}
    for name, size in tensors.items():
        path, _, own = name.rpartition(".")
        if path in around and _is_parameter(name, size):
            found[path] = (*found.get(path, ()), BareParameter(own, size.numel, size.nbytes))
    return found


def _ties(tensors: Mapping[str, TensorSize]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return further names of tensors, each with the first one, by the path of their module."""
    first: dict[Hashable, str] = {}
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for name, size in tensors.items():
        known = name if size.identity is None else first.setdefault(size.identity, name)
        if known != name and size.numel:
            path, _, own = name.rpartition(".")
            found[path] = (*found.get(path, ()), (own, known))
    return found

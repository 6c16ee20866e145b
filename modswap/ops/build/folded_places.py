"""Places inside units that their libraries fold into one layer, which would lose a new module."""

import inspect
from collections.abc import Iterator
from contextlib import suppress

from torch import nn

from modswap.core.errors import MatchError, ShapeError
from modswap.nn.inserted_site import own_class
from modswap.ops.apply import module_at

FOLDS = (
    *("forward_fuse", "fuse_convs", "reparameterize", "switch_to_deploy", "fuse"),
    *("get_equivalent_kernel_bias", "merge_bn"),
)
_TENSORS = {"weight", "bias"}
# what a method goes through that folds the parts of a whole model, each by itself
_WALKS = {"modules", "named_modules", "children", "named_children"}


def check_folds(model: nn.Module, path: str) -> None:
    """Refuse a place beside a layer that a unit around it reads when it is folded.

    Layers without tensors, as activations, are called by what is folded as before.

    Raises:
        ShapeError: With the unit around, beside which a module is safe.
    """
    site = module_at(model, path)
    if not [*site.parameters(), *site.buffers()]:
        return
    for around, unit in _around(model, path):
        child = path.removeprefix(f"{around}.").partition(".")[0]
        if name := fold_of(unit, child):
            cls = own_class(unit).__name__
            what = (
                f"it is a part of {around!r}, a {cls}, whose `{name}` makes one layer of its "
                "weights and leaves out what is put in beside them"
            )
            raise ShapeError(what, path, f"put it in beside the whole {cls}: {around}")


def fold_of(unit: nn.Module, child: str) -> str:
    """Return the method by which a unit that holds a child is made one layer; empty for none."""
    cls = own_class(unit)
    for name in FOLDS:
        code = getattr(inspect.unwrap(getattr(cls, name, None) or len), "__code__", None)
        names = {*code.co_names} if code is not None else set()
        if code is None or _WALKS & names:
            continue
        if name == "forward_fuse" or (_TENSORS | {child}) & names:
            return name
    return ""


def _around(model: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules around a path, the innermost first; the model itself is left out."""
    segments = path.split(".")
    for end in range(len(segments) - 1, 0, -1):
        place = ".".join(segments[:end])
        with suppress(MatchError):  # a part of a name with dots
            yield place, module_at(model, place)

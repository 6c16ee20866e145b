"""Refuse a pickle, read as data, that asks a safe unpickler for more than a sound file does.

An allow-list says which classes may be built, and not with which arguments. A call of an
allowed class runs its constructor, which may take all memory.
"""

from dataclasses import dataclass
from typing import Any

from modswap.core.errors import UnsafeError
from modswap.io.pickled.costs import CallCosts
from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.pickled.outline import values_of
from modswap.io.pickled.walk import everything, nesting_flaw
from modswap.io.recognise.look import Look

_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.nn.parameter.")
_FIX = "do not load it unless it is your own; for a file of your own making there is --trust"
_AGAIN = "save or download it again"


@dataclass(frozen=True, slots=True)
class Screened:
    """The objects of a torch file, which makes no call that no sound file makes."""

    calls: frozenset[str]  # every name that it would call
    made: tuple[Instance, ...]  # every object that it would make


def screen(look: Look) -> Screened:
    """Return the objects of a torch file; refuse calls that no sound file makes.

    Raises:
        UnreadableError: If it cannot be read as data, and so not be looked through.
        UnsafeError: If it reserves memory, or calls an object of its own.
        CheckpointError: If a tensor cannot be, or something contains itself.
    """
    values, _ = values_of(look)
    calls: set[str] = set()
    costs = CallCosts(look)
    made: list[Instance] = []
    storages: list[Storage] = []
    for value in everything(values):
        if isinstance(value, Storage):
            storages.append(value)
        if not isinstance(value, Instance):
            continue
        if value.how == "called":
            calls.add(str(value.what))
        _check_call(value, look)
        costs.add(value)
        made.append(value)
    if flaw := nesting_flaw(values):
        raise look.error(*flaw)
    sizes = _sizes(look, values)
    for stored in storages:
        _check_storage(stored, sizes.get(stored.key), look)
    return Screened(frozenset(calls), tuple(made))


def _sizes(look: Look, values: list[Any]) -> dict[str, int]:
    """Return the bytes that storages may have, by their keys."""
    if look.names:
        sized = zip(look.names, look.sizes, strict=True)
        return {name.partition("/data/")[2]: size for name, size in sized}
    keys = values[-1] if isinstance(values[-1], list) else []
    return {key: look.size for key in keys if isinstance(key, str)}


def _check_storage(stored: Storage, held: int | None, look: Look) -> None:
    """Refuse a storage of another size than its record, beyond which others would be read."""
    nbytes = stored.nbytes
    if held is None and look.names:
        return  # torch says which record is missing
    if held is None:
        what = f"it is damaged: there is no record of its storage {stored.key!r:.40}"
        raise look.error(what, _AGAIN)
    # an old file says the size again before the bytes, and torch compares them
    if nbytes != held if look.names else not 0 <= nbytes <= held:
        what = f"it is damaged: its storage {stored.key!r:.40} has {held:,} bytes"
        raise look.error(f"{what}, expected {nbytes:,}", _AGAIN)


def _check_call(made: Instance, look: Look) -> None:
    """Refuse tensors that are made by an object of the file."""
    if str(made.what).endswith("._rebuild_from_type_v2") and made.args:
        make = made.args[0]
        if not _rebuilds(make):
            what = f"to load it, {_shown(make)} would be called to make a tensor"
            raise UnsafeError(what, str(look.file), _FIX)


def _rebuilds(make: Any) -> bool:
    return isinstance(make, Name) and str(make).startswith(_REBUILDS)


def _shown(make: Any) -> str:
    if isinstance(make, Instance):
        return f"a {make.what} of its own"
    return str(make) if isinstance(make, Name) else f"an object of {type(make).__name__}"

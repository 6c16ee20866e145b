"""Refuse a pickle, read as data, that asks a safe unpickler for more than a sound file does.

An allow-list says which classes may be built, and not with which arguments. A call of an
allowed class runs its constructor, which may take all memory; an attribute may shadow a method.
"""

import re
from collections import Counter, OrderedDict
from typing import Any

import torch
from torch import nn

from modswap.core.errors import UnsafeError
from modswap.core.words.printable import shown
from modswap.io.pickled.costs import CallCosts
from modswap.io.pickled.data import Instance, Name, Storage, read_pickles
from modswap.io.pickled.outline import payload_of
from modswap.io.pickled.walk import everything, nesting_flaw
from modswap.io.recognise.look import Look


def _methods(kind: type) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name)))


# names that no attribute in a sound file has; host frameworks give modules a text called `type`
_MODULE = _methods(nn.Module) - {"type"}
_TENSOR = _methods(torch.Tensor) | {"shape", "dtype", "data", "grad", "device", "layout"}
_HELD = {"collections.OrderedDict": _methods(OrderedDict), "collections.Counter": _methods(Counter)}
_RESERVES = re.compile(r"(builtins|__builtin__)\.bytearray|torch\.(\w+\.)*\w*(Tensor|Storage)")
_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.nn.parameter.")
_LEGACY_PICKLES = 5  # magic number, version, system, payload, keys of the storages
_FIX = "do not load it unless it is your own; for a file of your own making there is --trust"
_AGAIN = "save or download it again"


def called_names(look: Look) -> frozenset[str]:
    """Return every name that a torch file would call; refuse calls that no sound file makes.

    Raises:
        UnreadableError: If it cannot be read as data, and so not be looked through.
        UnsafeError: If it reserves memory, shadows a method, or calls an object of its own.
        CheckpointError: If a tensor cannot be, or something contains itself.
    """
    payload = everything_in(look)
    calls: set[str] = set()
    costs = CallCosts(look)
    storages: list[Storage] = []
    for value in everything(payload):
        if isinstance(value, Storage):
            storages.append(value)
        if not isinstance(value, Instance):
            continue
        if value.how == "called":
            calls.add(str(value.what))
        _check_call(value, look)
        costs.add(value)
        _check_state(value, look)
    if flaw := nesting_flaw(payload):
        raise look.error(*flaw)
    sizes = _sizes(look, payload)
    for stored in storages:
        _check_storage(stored, sizes.get(stored.key), look)
    return frozenset(calls)


def everything_in(look: Look) -> Any:
    """Return the payload of a torch file as data; of an old file all its pickles."""
    if look.names:
        return payload_of(look)[0]
    with look.file.open("rb") as stream:
        return read_pickles(stream, _LEGACY_PICKLES)[0]


def _sizes(look: Look, payload: Any) -> dict[str, int]:
    """Return the bytes that storages may have, by their keys."""
    if look.names:
        sized = zip(look.names, look.sizes, strict=True)
        return {name.partition("/data/")[2]: size for name, size in sized}
    keys = payload[-1] if isinstance(payload[-1], list) else []
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
    """Refuse calls that reserve memory, and tensors that are made by an object of the file."""
    name, args = str(made.what), made.args
    called = ""
    if _RESERVES.fullmatch(name) and any(isinstance(arg, (int, tuple, Instance)) for arg in args):
        called = f"{name}({shown(args[0], 24)}) would be called, which reserves memory"
    elif name.endswith("._rebuild_from_type_v2") and args and not _rebuilds(args[0]):
        called = f"{_shown(args[0])} would be called to make a tensor"
    if called:
        raise UnsafeError(f"to load it, {called}", str(look.file), _FIX)


def _rebuilds(make: Any) -> bool:
    return isinstance(make, Name) and str(make).startswith(_REBUILDS)


def _shown(make: Any) -> str:
    if isinstance(make, Instance):
        return f"a {make.what} of its own"
    return str(make) if isinstance(make, Name) else f"an object of {type(make).__name__}"


def _check_state(made: Instance, look: Look) -> None:
    """Refuse attributes that would take the place of a method."""
    name, state = str(made.what), made.state
    rebuilt = name.endswith(("._rebuild_from_type_v2", "._rebuild_parameter_with_state"))
    if rebuilt:
        state = made.args[-1] if made.args else None
    elif state is not None and (_RESERVES.fullmatch(name) or "._rebuild_" in name):
        what = f"it sets attributes of a tensor through {name}, as no torch since 0.4 does"
        raise look.error(what, "save it again with a current torch")
    _refuse_shadows(made, state, _TENSOR if rebuilt else _methods_of(name, state), look)


def _refuse_shadows(made: Instance, state: Any, taken: frozenset[str], look: Look) -> None:
    states = state if isinstance(state, tuple) else (state,)
    for held in (held for held in states if isinstance(held, dict)):
        planted = sorted(taken & {key for key in held if isinstance(key, str)})
        if planted:
            what = f"it puts an attribute {planted[0]!r} into a {made.what}, in place of the method"
            raise UnsafeError(what, str(look.file), _FIX)


def _methods_of(name: str, state: Any) -> frozenset[str]:
    """Return the methods of an object, by the name of its class and by its attributes."""
    if isinstance(state, dict) and ("_modules" in state or name.startswith("torch.nn.")):
        return _MODULE
    return _HELD.get(name, frozenset())

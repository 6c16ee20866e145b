"""Judge what the calls of a pickle, read as data, would cost once a safe unpickler makes them.

An allow-list says which functions may be called, and not how often or with which arguments: one
element can be expanded to gigabytes, a text encoded by a quadratic codec, a long list read again by
each of a million calls.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

from modswap.core.budget import expanded_flaw
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.core.words.printable import shown
from modswap.io.pickled.bounded import Keys
from modswap.io.pickled.data import CostlyError, Instance, Name, Storage, UnreadableError
from modswap.io.pickled.values import DTYPE_BYTES
from modswap.io.pickled.walk import everything, nesting_flaw
from modswap.io.recognise.look import Look

_RESERVES = re.compile(r"builtins\.bytearray|torch\.(\w+\.)*\w*(Tensor|Storage)")
_CODECS = frozenset(("latin1", "latin-1", "iso-8859-1", "utf-8", "utf8", "ascii"))
_HASHED = frozenset(("set", "frozenset", "OrderedDict", "Counter", "dict", "defaultdict"))
_WITH_STORAGE = frozenset(
    ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
)
_CONVERTED = frozenset(("_rebuild_device_tensor_from_cpu_tensor",))
_SPARE_ARGUMENTS = 16_000_000  # values in the arguments of all calls, beyond the file's bytes
_SPARE_ATTRIBUTES = 1_000_000  # in the states of all objects, beyond the file's bytes
_FIX = "do not load it unless it is your own; for a file of your own making there is --trust"
_MAX_WRAPPERS = 16  # tensors of a class of their own inside one another
_MAX_ITEM_BYTES = 16  # of a complex number


def refuse_costs(payload: Any, look: Look) -> None:
    """Refuse a payload that would cost more than its file can account for, once it is loaded.

    Raises:
        UnsafeError: If a call of it is one that no sound file makes.
        CheckpointError: If all calls together cost too much.
        UnreadableError: If a tensor has no plain size.
        CostlyError: If later walks through it would not end.
    """
    costs = CallCosts(look)
    for value in everything(payload):
        if isinstance(value, Instance):
            costs.add(value)
    if flaw := nesting_flaw(payload):
        raise CostlyError(flaw[0])


class CallCosts:
    """The costs of all calls of a file so far."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._arguments = 0
        self._attributes = 0
        self._expanded = 0
        self._views: set[tuple[Any, ...]] = set()
        self._numels: dict[int, int] = {}
        self._keys = Keys()

    def add(self, made: Instance) -> None:
        """Add an object of the pickle, after those that its arguments hold.

        Raises:
            UnsafeError: If a call of it is one that no sound file makes.
            CheckpointError: If all calls together cost more than the file can account for.
            UnreadableError: If a tensor has no plain size.
        """
        if isinstance(made.state, dict):
            self._judge_state(made.what, made.state)
        if _RESERVES.fullmatch(str(made.what)):
            self._judge_reserve(made)
        if made.how == "called":
            self._judge_call(made)

    def _judge_state(self, what: Name, state: dict[Any, Any]) -> None:
        """Refuse states that objects share without end, and layers of a recurrent network.

        Each object copies its state; over its layers `__setstate__` would loop.
        """
        self._attributes += len(state)
        if self._attributes > _SPARE_ATTRIBUTES + 4 * self._look.size:
            raise self._error("its objects share more attributes than the file accounts for")
        layers = state.get("num_layers")
        if not isinstance(layers, int) or not {"_all_weights", "all_weights"} & state.keys():
            return
        held = state.get("_parameters")
        count = len(held.items) if isinstance(held, Instance) else len(held or ())
        if layers > count + 1:
            wrong = f"its {what} says {layers:,} layers and has {count:,} parameters"
            raise self._look.error(f"it is damaged: {wrong}")

    def _judge_call(self, made: Instance) -> None:
        self._arguments += sum(len(arg) for arg in made.args if isinstance(arg, _SIZED))
        if self._arguments > _SPARE_ARGUMENTS + 4 * self._look.size:
            raise self._error("the arguments of its calls are longer than the file accounts for")
        name, kind = str(made.what), made.what.attribute
        if name == "_codecs.encode" or kind in {"bytearray", "bytes"}:
            self._judge_text(made)
        elif kind in _HASHED:
            self._judge_keys(made)
        elif "_rebuild_" in kind:
            self._judge_tensor(made)

    def _judge_reserve(self, made: Instance) -> None:
        """Refuse to make a tensor or storage of a size, whose memory the file does not hold."""
        if any(isinstance(arg, (int, tuple, Instance)) for arg in made.args):
            called = f"{made.what}({shown(made.args[0], 24)}) would be called"
            what = f"to load it, {called}, which reserves memory"
            raise UnsafeError(what, str(self._look.file), _FIX)

    def _judge_text(self, made: Instance) -> None:
        """Refuse to encode anything but a text of the file, by a codec that is linear."""
        match made.args:
            case () | (str(), ("latin1" | "latin-1")) | (bytes(),):
                return
            case (str(), str(codec)) if codec.lower() in _CODECS:
                return
            case (str(),) if made.what.attribute == "encode":
                return
        why = (
            "as no sound file does" if made.what.attribute == "encode" else "which reserves memory"
        )
        what = f"to load it, {made.what} would be called, {why}"
        raise UnsafeError(what, str(self._look.file), _FIX)

    def _judge_keys(self, made: Instance) -> None:
        """Refuse keys and elements whose hashes cost more than their bytes."""
        for arg in made.args:
            hashed: Any = arg if isinstance(arg, (list, tuple, dict)) else ()
            if made.what.attribute not in {"set", "frozenset", "Counter"}:
                pairs = [pair for pair in hashed if isinstance(pair, (list, tuple)) and pair]
                hashed = [pair[0] for pair in pairs]
            if flaw := self._keys.flaw(hashed):
                raise self._error(flaw)

    def _judge_tensor(self, made: Instance) -> None:
        inner = made
        for _ in range(_MAX_WRAPPERS):
            match inner.what.attribute, inner.args:
                case "_rebuild_from_type_v2", (Name() as make, _, tuple() as args, *_):
                    inner = Instance("called", make, args)
        kind, args = inner.what.attribute, inner.args
        if kind in _WITH_STORAGE:
            self._judge_view(kind, args)
        elif kind in _CONVERTED:
            self._judge_copy(args)

    def _judge_view(self, kind: str, args: tuple[Any, ...]) -> None:
        match args:
            case (Storage() as stored, start, size, *rest):
                view = (stored.home, stored.key, start if type(start) is int else 0)
            case _:
                return  # torch refuses it
        sides = _plain_size(size)
        if sides is None:
            raise UnreadableError("a tensor of it has no plain size")
        seen = (*view, sides, _plain_size(rest[0]) if rest else None)
        if seen not in self._views:
            self._views.add(seen)
            self._expand(_product(sides) * _itemsize(kind, stored, rest))

    def _judge_copy(self, args: tuple[Any, ...]) -> None:
        """Count a conversion: a copy in another dtype, anew by each call."""
        match args:
            case (Instance() as data, dtype, *_):
                numel = _numel(data)
            case _:
                return
        if numel is None:
            raise UnreadableError("a tensor of it has no plain size")
        name = dtype.attribute if isinstance(dtype, Name) else ""
        self._expand(numel * DTYPE_BYTES.get(name, _MAX_ITEM_BYTES))

    def _expand(self, nbytes: int) -> None:
        self._expanded += nbytes
        if flaw := expanded_flaw(self._expanded, self._look.size):
            raise CheckpointError(
                flaw, str(self._look.file), "save it again without expanded tensors"
            )

    def _error(self, what: str) -> CheckpointError:
        return self._look.error(what, "do not load it: it was not made by a sound program")


_SIZED = (str, bytes, list, tuple, dict)


def _product(sides: Sequence[int]) -> int:
    """Return the number of elements of a size; no more than a number of 64 bits takes."""
    if min(sides, default=1) <= 0:
        return 0  # torch refuses negative sides
    numel = 1
    for side in sides:
        numel = min(numel * min(side, sys.maxsize), sys.maxsize)
    return numel


def _itemsize(kind: str, stored: Storage, rest: Sequence[Any]) -> int:
    """Return the bytes of an element of a tensor, from its storage or from a dtype of its own."""
    own = kind == "_rebuild_tensor_v3" and len(rest) > 3 and isinstance(rest[3], Name)
    return DTYPE_BYTES.get(rest[3].attribute, 1) if own else stored.itemsize


def _plain_size(size: Any) -> tuple[int, ...] | None:
    """Return the sides of a size: a tuple of numbers, or `torch.Size` of one."""
    if isinstance(size, Instance) and str(size.what) == "torch.Size" and len(size.args) == 1:
        size = size.args[0]
        size = tuple(size) if isinstance(size, list) else size
    plain = isinstance(size, tuple) and all(type(side) is int for side in size)
    return size if plain else None


def _numel(made: Instance) -> int | None:
    """Return the elements of a tensor that is made from a storage, within wrappers or without."""
    for _ in range(_MAX_WRAPPERS):
        match made.what.attribute, made.args:
            case "_rebuild_from_type_v2", (Name() as make, _, tuple() as args, *_):
                made = Instance("called", make, args)
            case (
                "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
                | "_rebuild_device_tensor_from_cpu_tensor",
                (Instance() as inner, *_),
            ):
                made = inner
            case _, (Storage(), _, size, *_):
                sides = _plain_size(size)
                return None if sides is None else _product(sides)
            case _:
                return None
    return None

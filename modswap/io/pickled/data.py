"""Read a pickle as data: each object that it would build or call becomes an `Instance`.

No name in it is imported, nothing is called, no state is set. The operations of `torch.save` are
read: protocols 0 to 3, without the operations that reserve as much memory as a file says.
"""

import gc
import io
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Literal, NoReturn

from modswap.core.words.printable import shown
from modswap.io.pickled.bounded import BoundedUnpickler
from modswap.io.pickled.names import dotted

MAX_PICKLE_BYTES = 256 << 20
MAX_OPERATIONS = 32_000_000
_MOST_ELEMENTS = 1 << 63  # of a storage
_MOST_DIGITS_BYTES = 256  # of a whole number; Python refuses to print one of thousands
_SMALL_BYTES = 8  # arguments up to this size count with their operation
_NAME_BYTES = 300  # of memory, with its place in the table of names
_MADE_BYTES = {"called": 240, "new": 96}  # an ordered dictionary of torch's reader takes as much
_ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8, "QInt32": 4, "QInt8": 1,
    "QUInt8": 1, "Untyped": 1,
}  # fmt: skip
_BANNED = (
    *("EXT1", "EXT2", "EXT4", "FRAME", "STACK_GLOBAL", "MEMOIZE", "NEWOBJ_EX", "BINUNICODE8"),
    *("BINBYTES8", "SHORT_BINUNICODE", "EMPTY_SET", "ADDITEMS", "FROZENSET", "BYTEARRAY8"),
    *("NEXT_BUFFER", "READONLY_BUFFER", "PERSID", "INST", "OBJ"),
)
_BANNED_CODES = {getattr(pickle, name)[0] for name in _BANNED}
_MODERN = ("FRAME", "STACK_GLOBAL", "MEMOIZE", "SHORT_BINUNICODE", "BINUNICODE8")
_MODERN_CODES = {getattr(pickle, name)[0] for name in _MODERN}


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names, by its module and its name there."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return dotted(self.module, self.attribute)


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage, whose bytes are beside the pickle."""

    kind: Name  # its class, such as `torch.FloatStorage`
    key: str  # the name of its record
    count: int  # of elements, as the pickle says
    location: str = "cpu"  # the device that it was on
    home: int = 0  # number of the file that holds the record, where a payload refers to several

    @property
    def dtype(self) -> str:
        """Return the dtype as the class of the storage names it: `Float`, `Half` and so on."""
        return self.kind.attribute.removesuffix("Storage")

    @property
    def itemsize(self) -> int:
        """Return the bytes of an element."""
        return _ITEM_BYTES.get(self.dtype, 1)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all elements."""
        return self.count * self.itemsize


@dataclass(eq=False, slots=True)
class Instance:
    """An object that a pickle would make; most hold nothing, and have no lists of their own."""

    how: Literal["called", "new"]  # by a call, or by `__new__`
    what: Name  # the class or function
    args: tuple[Any, ...]
    state: Any = None  # that its attributes would be set to
    items: list[tuple[Any, Any]] | tuple[()] = ()  # that would be put into it
    elements: list[Any] | tuple[()] = ()  # that would be appended to it

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items = self.items or []
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """Add an element, as a list does."""
        self.extend([value])

    def extend(self, values: list[Any]) -> None:
        """Add elements, as a list does."""
        self.elements = self.elements or []
        self.elements += values


class UnreadableError(Exception):
    """A pickle is damaged, hostile, or of a kind that `torch.save` does not write."""


class CostlyError(UnreadableError):
    """A pickle asks for more time or memory than a sound one, so no other reader may try it."""


def read_pickle(
    data: bytes, home: int = 0, location: str | None = None
) -> tuple[Any, tuple[Name, ...]]:
    """Return the value of a pickle as data, and every name in it in the order of the first use.

    Its storages get the `home`, and the `location` unless it is None.

    Raises:
        UnreadableError: If it cannot be read as data.
    """
    (value,), names = read_pickles(io.BytesIO(data), 1, home=home, location=location)
    return value, names


def read_pickles(
    stream: BinaryIO,
    count: int,
    *,
    home: int = 0,
    location: str | None = None,
    modern: bool = False,
) -> tuple[list[Any], tuple[Name, ...]]:
    """Return the values of consecutive pickles, and every name in them.

    The stream is at the start of the first, and afterwards at the end of the last. With `modern`
    they may be of protocol 4, which `torch.save` does not write.

    Raises:
        UnreadableError: If a pickle cannot be read as data.
    """
    bounds = _Bounds(MAX_OPERATIONS, MAX_PICKLE_BYTES)
    names: _Names = {}
    reader = _ModernReader if modern else _Reader
    try:
        with _uncollected():
            values = [reader(stream, bounds, names, home, location).load() for _ in range(count)]
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        # a damaged pickle raises anything: its stack holds values of any type
        raise UnreadableError(f"{type(error).__name__}: {error}"[:200]) from error
    return values, tuple(names.values())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Turn the garbage collector off: a pickle makes millions of objects and no garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass(slots=True)
class _Bounds:
    """The operations and bytes that consecutive pickles may still use."""

    operations: int
    nbytes: int

    def take(self, operations: int, nbytes: int) -> None:
        """Use some of both, or raise an `UnreadableError`."""
        self.operations -= operations
        self.nbytes -= nbytes
        if self.operations < 0 or self.nbytes < 0:
            raise CostlyError(
                f"it has more than {MAX_OPERATIONS:,} parts or {MAX_PICKLE_BYTES:,} bytes"
            )


_NUMBER = struct.Struct("<I")
_Stop: Any = vars(pickle)["_Stop"]


_Names = dict[tuple[str, str], Name]


class _Reader(BoundedUnpickler):
    proto: int
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: step for code, step in BoundedUnpickler.dispatch.items() if code not in _BANNED_CODES
    }

    def __init__(
        self, stream: BinaryIO, bounds: _Bounds, names: _Names, home: int, location: str | None
    ) -> None:
        super().__init__(stream)
        self.bounds, self.names = bounds, names
        self.home, self.location = home, location

    def refuse(self, what: str) -> NoReturn:
        raise CostlyError(what)

    def load(self) -> Any:
        """Return the value of the pickle; the steps are pickle's own, the loop is faster."""
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        code, dispatch = self.stream.read, self.dispatch
        most, left = min(self.bounds.operations, self.bounds.nbytes), 0
        try:
            for left in range(most, -1, -1):  # noqa: B007 - the operations left are counted after the loop
                operation = code(1)
                if not operation:
                    raise EOFError("it has no end")
                dispatch[operation[0]](self)
        except _Stop as stop:
            self.bounds.take(most - left + 1, most - left + 1)
            if self.stack or self.metastack:
                raise UnreadableError("it makes objects that are in nothing") from None
            return stop.value
        self.bounds.take(most + 1, most + 1)
        raise AssertionError  # pragma: no cover - `take` raises

    def read(self, size: int) -> bytes:
        """Return `size` bytes; raise an `EOFError` if fewer are left."""
        if size > _SMALL_BYTES:
            self.bounds.take(0, size)
        data = self.stream.read(size)
        if len(data) < size:
            raise EOFError("it ends within an argument")
        return data

    def readline(self) -> bytes:
        """Return the rest of a line."""
        line = self.stream.readline(self.bounds.nbytes + 1)
        self.bounds.take(0, len(line))
        return line

    def find_class(self, module: str, name: str) -> Name:
        found = self.names.get((module, name))
        if found is None:
            self.spend(_NAME_BYTES)
            found = self.names[module, name] = Name(module, name)
        return found

    def persistent_load(self, pid: Any) -> Storage | Name:
        match pid:
            case ["storage", Name() as kind, str(key), str(location), int(count), *view]:
                # old files have a sixth part
                if view in ([], [None]) and abs(count) < _MOST_ELEMENTS:
                    return Storage(kind, key, count, self.location or location, self.home)
            case ["module", Name() as kind, *_]:
                return kind  # files from before torch 1.6 name the class of a module so
        raise UnreadableError(f"it refers to something that is no storage: {shown(pid, 80)}")

    def load_long4(self) -> None:
        (size,) = _NUMBER.unpack(self.read(4))
        if size > _MOST_DIGITS_BYTES:
            raise UnreadableError(f"it has a whole number of {size:,} bytes")
        self.append(pickle.decode_long(self.read(size)))

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.spend(_MADE_BYTES["new"])
        self.append(Instance("new", _name(self.stack.pop()), _arguments(args)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.spend(_MADE_BYTES["called"])
        self.stack[-1] = Instance("called", _name(self.stack[-1]), _arguments(args))

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, Instance):
            raise UnreadableError(f"it sets the state of {type(made).__name__}")
        if made.state is not None:
            raise UnreadableError(f"it sets the state of a {made.what} twice")
        made.state = state

    # a value that takes the place of another hides an object that an unpickler has made
    def set_items(self, items: list[Any]) -> None:
        held = self.stack[-1]
        before = len(held) if type(held) is dict else None
        super().set_items(items)
        if before is not None and len(held) != before + len(items) // 2:
            raise UnreadableError("it puts two values under a key")

    # most operations of a pickle are among these four
    def load_binget(self) -> None:
        self.append(self.memo[self.stream.read(1)[0]])

    def load_long_binget(self) -> None:
        self.append(self.memo[_NUMBER.unpack(self.stream.read(4))[0]])

    def load_binput(self) -> None:
        self.memo[self.stream.read(1)[0]] = self.stack[-1]

    def load_long_binput(self) -> None:
        self.memo[_NUMBER.unpack(self.stream.read(4))[0]] = self.stack[-1]

    dispatch |= {
        pickle.BINGET[0]: load_binget,
        pickle.LONG_BINGET[0]: load_long_binget,
        pickle.BINPUT[0]: load_binput,
        pickle.LONG_BINPUT[0]: load_long_binput,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.LONG4[0]: load_long4,
    }


class _ModernReader(_Reader):
    """A reader of protocol 4, as Python's own pickle writes it."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Reader.dispatch,
        **{code: BoundedUnpickler.dispatch[code] for code in _MODERN_CODES},
    }

    def load_frame(self) -> None:
        self.read(8)  # the length; the content is read and counted as without a frame

    dispatch[pickle.FRAME[0]] = load_frame


def _name(value: Any) -> Name:
    if not isinstance(value, Name):
        raise UnreadableError(f"it calls {type(value).__name__}, which is no name")
    return value


def _arguments(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise UnreadableError(f"it gives {type(value).__name__} as arguments")
    return value

"""Reading a pickle as data: whatever it would build or call becomes a note of that.

No name in it is imported, nothing is called, no state is set. Only what `torch.save` writes is
understood: protocols 0 to 3, without the operations that reserve memory as a file says.
"""

import gc
import io
import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Literal

MAX_PICKLE_BYTES = 256 << 20  # bytes of a pickle
MAX_OPERATIONS = 16_000_000  # operations; each makes an object of a hundred bytes at most
SMALL = 8  # bytes of an argument that count with its operation
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
    """A class or function that a pickle names.

    Args:
        module: Its module.
        attribute: Its name there.
    """

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}.{self.attribute}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage, whose bytes lie beside the pickle.

    Args:
        kind: The class of the storage, which tells the dtype.
        key: Name of its record.
        count: Elements that it says it has.
        location: The device that it was on.
        home: Tells the storages of one file from those of another.
    """

    kind: Name
    key: str
    count: int
    location: str = "cpu"
    home: int = 0


@dataclass(eq=False, slots=True)
class Instance:
    """An object that a pickle would make.

    Args:
        how: By a call, or by `__new__`.
        what: The class or function.
        args: What it would be given.
        state: What its attributes would be set to; None for nothing.
        items: What would be put into it by key; a list where there is any.
        elements: What would be appended to it, likewise.
    """

    how: Literal["called", "new"]
    what: Name
    args: tuple[Any, ...]
    state: Any = None
    items: Sequence[tuple[Any, Any]] = ()
    elements: Sequence[Any] = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items = _more(self.items, [(key, value)])

    def append(self, value: Any) -> None:
        """Note an element, as a list would."""
        self.elements = _more(self.elements, [value])

    def extend(self, values: list[Any]) -> None:
        """Note elements, as a list would."""
        self.elements = _more(self.elements, values)


def _more(held: Sequence[Any], values: list[Any]) -> list[Any]:
    """Return a list with more in it; most objects hold nothing, and have no list of their own."""
    if not isinstance(held, list):
        return list(values)
    held += values
    return held


class UnreadableError(Exception):
    """A pickle that is damaged, hostile, or of a kind that `torch.save` does not write."""


def read_pickle(
    data: bytes, home: int = 0, location: str | None = None
) -> tuple[Any, tuple[Name, ...]]:
    """Return what a pickle holds, as data, and every name in it in the order of the first use.

    Args:
        data: The pickle.
        home: The `home` of its storages.
        location: Takes the place of their own; None for none.

    Raises:
        UnreadableError: If it cannot be read so.
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
    """Return what pickles hold that follow one another, and every name in them.

    Args:
        stream: Where the first begins; left behind the last.
        count: How many.
        home: The `home` of their storages.
        location: Takes the place of their own; None for none.
        modern: Whether they may be of protocol 4, which `torch.save` does not write.

    Raises:
        UnreadableError: If one cannot be read.
    """
    bounds = _Bounds()
    names: dict[tuple[str, str], Name] = {}
    reader = _ModernReader if modern else _Reader
    try:
        with _uncollected():
            values = [reader(stream, bounds, names, home, location).load() for _ in range(count)]
    except UnreadableError:
        raise
    except Exception as error:
        # a damaged pickle raises anything: what lies on its stack is of any kind
        raise UnreadableError(f"{type(error).__name__}: {error}"[:200]) from error
    return values, tuple(names.values())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away from what a block makes: millions of objects, no garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass(slots=True)
class _Bounds:
    """How many operations and bytes are left to pickles that follow one another."""

    operations: int = field(default_factory=lambda: MAX_OPERATIONS)
    nbytes: int = field(default_factory=lambda: MAX_PICKLE_BYTES)

    def take(self, operations: int, nbytes: int) -> None:
        """Take some of both.

        Raises:
            UnreadableError: If there are not so many.
        """
        self.operations -= operations
        self.nbytes -= nbytes
        if self.operations < 0 or self.nbytes < 0:
            raise UnreadableError(
                f"it has more than {MAX_OPERATIONS:,} parts or {MAX_PICKLE_BYTES:,} bytes"
            )


# the one in Python: its steps can be replaced, and it reserves nothing that a file asks for
_Unpickler: Any = vars(pickle)["_Unpickler"]
_NUMBER = struct.Struct("<I")
_Stop: Any = vars(pickle)["_Stop"]


class _Reader(_Unpickler):  # type: ignore[misc] # of no known type
    metastack: list[list[Any]]
    stack: list[Any]
    append: Callable[[Any], None]
    proto: int
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: step for code, step in _Unpickler.dispatch.items() if code not in _BANNED_CODES
    }

    def __init__(
        self,
        stream: BinaryIO,
        bounds: _Bounds,
        names: dict[tuple[str, str], Name],
        home: int,
        location: str | None,
    ) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogatepass")
        self.stream = stream
        self.bounds = bounds
        self.names = names
        self.home = home
        self.location = location

    def load(self) -> Any:
        """Return what the pickle holds; its steps are pickle's own, the loop is a quicker one."""
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        code, dispatch = self.stream.read, self.dispatch
        most, left = min(self.bounds.operations, self.bounds.nbytes), 0
        try:
            for left in range(most, -1, -1):  # noqa: B007 - how many were not made
                operation = code(1)
                if not operation:
                    raise EOFError("it has no end")
                dispatch[operation[0]](self)
        except _Stop as stop:
            self.bounds.take(most - left + 1, most - left + 1)
            return stop.value
        self.bounds.take(most + 1, most + 1)
        raise AssertionError  # pragma: no cover - there were not so many

    def read(self, size: int) -> bytes:
        """Return so many bytes, or those that are left."""
        if size > SMALL:
            self.bounds.take(0, size)
        data = self.stream.read(size)
        if len(data) < size:
            raise EOFError("it ends within an argument")
        return data

    def readline(self) -> bytes:
        """Return what is left of a line."""
        line = self.stream.readline(self.bounds.nbytes + 1)
        self.bounds.take(0, len(line))
        return line

    def find_class(self, module: str, name: str) -> Name:
        return self.names.setdefault((module, name), Name(module, name))

    def persistent_load(self, pid: Any) -> Storage | Name:
        match pid:
            case (
                "storage",
                Name() as kind,
                str() as key,
                str() as location,
                int() as count,
                *view,
            ) if (
                view in ([], [None])  # old files have a sixth part
            ):
                return Storage(kind, key, count, self.location or location, self.home)
            case ("module", Name() as kind, *_):
                return kind  # how files of before torch 1.6 name the class of a module
        raise UnreadableError(f"it refers to what is no storage: {pid!r:.80}")

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.append(Instance("new", _name(self.stack.pop()), _arguments(args)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = Instance("called", _name(self.stack[-1]), _arguments(args))

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, Instance):
            raise UnreadableError(f"it sets the state of {type(made).__name__}")
        if made.state is not None:
            raise UnreadableError(f"it sets the state of a {made.what} twice")
        made.state = state

    # most steps of a pickle are these
    def load_binget(self) -> None:
        self.append(self.memo[self.stream.read(1)[0]])

    def load_long_binget(self) -> None:
        self.append(self.memo[_NUMBER.unpack(self.stream.read(4))[0]])

    def load_binput(self) -> None:
        self.memo[self.stream.read(1)[0]] = self.stack[-1]

    def load_long_binput(self) -> None:
        self.memo[_NUMBER.unpack(self.stream.read(4))[0]] = self.stack[-1]

    dispatch[pickle.BINGET[0]] = load_binget
    dispatch[pickle.LONG_BINGET[0]] = load_long_binget
    dispatch[pickle.BINPUT[0]] = load_binput
    dispatch[pickle.LONG_BINPUT[0]] = load_long_binput
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build


class _ModernReader(_Reader):
    """A reader of protocol 4, as Python's own pickle writes it."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Reader.dispatch,
        **{code: _Unpickler.dispatch[code] for code in _MODERN_CODES},
    }

    def load_frame(self) -> None:
        self.read(8)  # its length; what is in it is read and counted as if it were not framed

    dispatch[pickle.FRAME[0]] = load_frame


def _name(value: Any) -> Name:
    if not isinstance(value, Name):
        raise UnreadableError(f"it calls {type(value).__name__}, which is no name")
    return value


def _arguments(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise UnreadableError(f"it gives {type(value).__name__} as arguments")
    return value

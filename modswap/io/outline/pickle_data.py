"""Reading a pickle as data: whatever it would build or call becomes a note of that.

No name in it is imported, nothing is called, no state is set. Only what `torch.save` writes is
understood: protocols 0 to 3, without the operations that reserve memory as a file says.
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Literal

LARGEST = 256 << 20  # bytes of a pickle
MOST = 24_000_000  # operations and their arguments; each makes an object of a hundred bytes at most
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
class Stored:
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
class Made:
    """An object that a pickle would make.

    Args:
        how: By a call, or by `__new__`.
        what: The class or function.
        args: What it would be given.
        state: What its attributes would be set to; None for nothing.
        items: What would be put into it by key.
        elements: What would be appended to it.
    """

    how: Literal["called", "new"]
    what: Name
    args: tuple[Any, ...]
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)
    elements: list[Any] = field(default_factory=list)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """Note an element, as a list would."""
        self.elements.append(value)

    def extend(self, values: list[Any]) -> None:
        """Note elements, as a list would."""
        self.elements.extend(values)


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
    counted = _Counted(stream)
    names: dict[tuple[str, str], Name] = {}
    reader = _ModernReader if modern else _Reader
    try:
        values = [reader(counted, names, home, location).load() for _ in range(count)]
    except UnreadableError:
        raise
    except Exception as error:
        # a damaged pickle raises anything: what lies on its stack is of any kind
        raise UnreadableError(f"{type(error).__name__}: {error}"[:200]) from error
    return values, tuple(names.values())


class _Counted:
    """A stream of pickles, so many of whose parts and bytes may be read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.parts = MOST
        self.nbytes = LARGEST

    def read(self, size: int) -> bytes:
        return self._count(self.stream.read(min(size, self.nbytes + 1)))

    def readline(self) -> bytes:
        return self._count(self.stream.readline(self.nbytes + 1))

    def _count(self, data: bytes) -> bytes:
        self.parts -= 1
        self.nbytes -= len(data)
        if self.parts < 0 or self.nbytes < 0:
            raise UnreadableError(f"it has more than {MOST:,} parts or {LARGEST:,} bytes")
        return data


# the one in Python: its steps can be replaced, and it reserves nothing that a file asks for
_Unpickler: Any = vars(pickle)["_Unpickler"]


class _Reader(_Unpickler):  # type: ignore[misc] # of no known type
    stack: list[Any]
    append: Callable[[Any], None]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: step for code, step in _Unpickler.dispatch.items() if code not in _BANNED_CODES
    }

    def __init__(
        self,
        stream: _Counted,
        names: dict[tuple[str, str], Name],
        home: int,
        location: str | None,
    ) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogatepass")
        self.names = names
        self.home = home
        self.location = location

    def find_class(self, module: str, name: str) -> Name:
        return self.names.setdefault((module, name), Name(module, name))

    def persistent_load(self, pid: Any) -> Stored | Name:
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
                return Stored(kind, key, count, self.location or location, self.home)
            case ("module", Name() as kind, *_):
                return kind  # how files of before torch 1.6 name the class of a module
        raise UnreadableError(f"it refers to what is no storage: {pid!r:.80}")

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.append(Made("new", _name(self.stack.pop()), _arguments(args)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = Made("called", _name(self.stack[-1]), _arguments(args))

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, Made):
            raise UnreadableError(f"it sets the state of {type(made).__name__}")
        if made.state is not None:
            raise UnreadableError(f"it sets the state of a {made.what} twice")
        made.state = state

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

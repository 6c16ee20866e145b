"""Write a pickle from values that were read as data; nothing is imported, nothing is called."""

import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from modswap.io.pickled.data import Instance, Name, Storage, UnreadableError

_PROTOCOL = 2
_LARGEST_BININT = 1 << 31
_TUPLES = {1: pickle.TUPLE1, 2: pickle.TUPLE2, 3: pickle.TUPLE3}


_Step = Callable[["_Writer", Any], None]


def write_pickle(value: Any, protocol: int = _PROTOCOL) -> tuple[bytes, tuple[Storage, ...]]:
    """Return the pickle of a value that `read_pickle` returned, and its storages, by number.

    The n-th storage has the key `str(n)` in the pickle. An object that a value holds at several
    places is written once. The announced protocol is 2 or 3.

    Raises:
        UnreadableError: If it holds a value that no such pickle can hold.
    """
    writer = _Writer()
    data = writer.written(value, max(protocol, _PROTOCOL))
    return data, tuple(storage for _, storage in writer.storages.values())


class _Writer:
    """Write a pickle; steps wait on a stack, so that deep values do not nest in Python."""

    def __init__(self) -> None:
        self.storages: dict[tuple[int, str], tuple[str, Storage]] = {}
        self.out = bytearray()
        self.numbers: dict[Any, int] = {}
        self.waiting: list[tuple[_Step, Any]] = []
        self.kept: list[Any] = []  # while an object is kept, no other gets its id

    def written(self, value: Any, protocol: int) -> bytes:
        self.out += pickle.PROTO + bytes([protocol])
        self.waiting.append((_Writer.write, value))
        while self.waiting:
            step, item = self.waiting.pop()
            step(self, item)
        return bytes(self.out + pickle.STOP)

    def write(self, item: Any) -> None:
        kind = type(item)
        known = self.numbers.get(item if kind is Name else id(item))
        if known is not None:
            self.out += _numbered(pickle.BINGET, pickle.LONG_BINGET, known)
            return
        step = _STEPS.get(kind)
        if step is None:
            raise UnreadableError(f"it holds {kind.__name__}, which cannot be written")
        step(self, item)

    def number(self, item: Any) -> None:
        """Give a written object the number by which it is written from then on."""
        self.numbers[item if type(item) is Name else id(item)] = number = len(self.numbers)
        self.kept.append(item)
        self.out += _numbered(pickle.BINPUT, pickle.LONG_BINPUT, number)

    def number_once(self, item: Any) -> None:
        known = self.numbers.get(id(item))
        if known is None:
            self.number(item)
        else:  # it was inside itself, and has a number already
            self.out += pickle.POP + _numbered(pickle.BINGET, pickle.LONG_BINGET, known)

    def write_code(self, item: bytes) -> None:
        self.out += item

    def _later(self, values: Sequence[Any], *steps: tuple[_Step, Any]) -> None:
        """Write values next, and do some steps afterwards."""
        self.waiting += reversed(steps)
        self.waiting += ((_Writer.write, value) for value in reversed(values))

    def write_none(self, item: None) -> None:
        del item
        self.out += pickle.NONE

    def write_bool(self, item: bool) -> None:  # noqa: FBT001 - the value to write
        self.out += pickle.NEWTRUE if item else pickle.NEWFALSE

    def write_int(self, item: int) -> None:
        if -_LARGEST_BININT <= item < _LARGEST_BININT:
            small = pickle.BININT1 + struct.pack("<B", item) if 0 <= item < 256 else b""
            self.out += small or pickle.BININT + struct.pack("<i", item)
            return
        data = pickle.encode_long(item)
        short = len(data) < 256
        head = pickle.LONG1 + bytes([len(data)]) if short else b""
        self.out += (head or pickle.LONG4 + struct.pack("<i", len(data))) + data

    def write_float(self, item: float) -> None:
        self.out += pickle.BINFLOAT + struct.pack(">d", item)

    def write_str(self, item: str) -> None:
        data = item.encode("utf-8", "surrogatepass")
        self.out += pickle.BINUNICODE + struct.pack("<I", len(data)) + data
        self.number(item)

    def write_bytes(self, item: bytes) -> None:
        small = len(item) < 256
        head = pickle.SHORT_BINBYTES + bytes([len(item)]) if small else b""
        self.out += (head or pickle.BINBYTES + struct.pack("<I", len(item))) + item
        self.number(item)

    def write_tuple(self, item: tuple[Any, ...]) -> None:
        if not item:
            self.out += pickle.EMPTY_TUPLE
            return
        short = _TUPLES.get(len(item))
        self.out += b"" if short else pickle.MARK
        code = (_Writer.write_code, short or pickle.TUPLE)
        self._later(item, code, (_Writer.number_once, item))

    def write_list(self, item: list[Any]) -> None:
        self.out += pickle.EMPTY_LIST
        self.number(item)
        self._appended(item)

    def write_dict(self, item: dict[Any, Any]) -> None:
        self.out += pickle.EMPTY_DICT
        self.number(item)
        self._set(item.items())

    def write_name(self, item: Name) -> None:
        text = f"{item.module}\n{item.attribute}\n"
        self.out += pickle.GLOBAL + text.encode("utf-8", "surrogatepass")
        self.number(item)

    def write_storage(self, item: Storage) -> None:
        key, _ = self.storages.setdefault((item.home, item.key), (str(len(self.storages)), item))
        pid = ("storage", item.kind, key, item.location, item.count)
        self._later([pid], (_Writer.write_code, pickle.BINPERSID))

    def write_instance(self, item: Instance) -> None:
        code = (_Writer.write_code, pickle.REDUCE if item.how == "called" else pickle.NEWOBJ)
        number, fill = (_Writer.number_once, item), (_Writer.fill, item)
        self._later([item.what, item.args], code, number, fill)

    def fill(self, item: Instance) -> None:
        """Write the state and the contents of a written object."""
        if item.state is not None:
            self._later([item.state], (_Writer.write_code, pickle.BUILD))
        self._set(item.items)
        self._appended(item.elements)

    def _appended(self, items: Sequence[Any]) -> None:
        if items:
            self._later(items, (_Writer.write_code, pickle.APPENDS))
            self.waiting.append((_Writer.write_code, pickle.MARK))

    def _set(self, items: Iterable[tuple[Any, Any]]) -> None:
        flat = [part for pair in items for part in pair]
        if flat:
            self._later(flat, (_Writer.write_code, pickle.SETITEMS))
            self.waiting.append((_Writer.write_code, pickle.MARK))


def _numbered(short: bytes, long: bytes, number: int) -> bytes:
    return short + bytes([number]) if number < 256 else long + struct.pack("<I", number)


_STEPS: dict[type, _Step] = {
    type(None): _Writer.write_none,
    bool: _Writer.write_bool,
    int: _Writer.write_int,
    float: _Writer.write_float,
    str: _Writer.write_str,
    bytes: _Writer.write_bytes,
    tuple: _Writer.write_tuple,
    list: _Writer.write_list,
    dict: _Writer.write_dict,
    Name: _Writer.write_name,
    Storage: _Writer.write_storage,
    Instance: _Writer.write_instance,
}

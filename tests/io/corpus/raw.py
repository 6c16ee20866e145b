"""Zips, pickles and safetensors put together byte by byte, as no library would write them."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from tests.io.corpus.case import net

MEMO, STOP = b"q\xff", b"."


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a zip; what is None is as it should be.

    Args:
        name: Its name.
        data: Its bytes as they lie in the file.
        method: How they are said to be compressed.
        flags: Its flags.
        size: How many bytes there are said to be, unpacked.
        packed: How many bytes there are said to be.
        start: Where its own header is said to begin.
        local: Its name in its own header.
        crc: Its checksum.
        extra: What follows its name in the directory.
        own: Fields of its own header that differ from the directory's: `flags`, `method`, `crc`,
            `packed`, `size`.
        own_extra: What follows its name in its own header.
        after: What follows its bytes.
        comment: Its comment in the directory.
    """

    name: str
    data: bytes
    method: int = 0
    flags: int = 0
    size: int | None = None
    packed: int | None = None
    start: int | None = None
    local: str | None = None
    crc: int | None = None
    extra: bytes = b""
    own: Mapping[str, int] = field(default_factory=dict)
    own_extra: bytes = b""
    after: bytes = b""
    comment: bytes = b""

    def headers(self, position: int) -> tuple[bytes, bytes]:
        """Return its own header, and its line in the directory."""
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        size = len(self.data) if self.size is None else self.size
        packed = len(self.data) if self.packed is None else self.packed
        start = position if self.start is None else self.start
        listed = self.name.encode("utf-8", "surrogateescape")
        named = listed if self.local is None else self.local.encode()
        said = {"flags": self.flags, "method": self.method, "time": 0, "date": 33}
        said |= {"crc": crc, "packed": packed, "size": size}
        fields = (20, *{**said, **self.own}.values(), len(named), len(self.own_extra))
        own = struct.pack("<IHHHHHIIIHH", 0x04034B50, *fields) + named + self.own_extra
        lengths = (len(listed), len(self.extra), len(self.comment), 0, 0, 0, start)
        line = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, *said.values(), *lengths)
        return own, line + listed + self.extra + self.comment


def zipped(
    entries: Iterable[Entry], *, count: int | None = None, at: int | None = None, tail: bytes = b""
) -> bytes:
    """Return a zip.

    Args:
        entries: What is in it.
        count: How many entries the end says there are.
        at: Where the end says that the directory begins.
        tail: What follows the end.
    """
    body, directory, number = bytearray(), bytearray(), 0
    for entry in entries:
        own, line = entry.headers(len(body))
        body += own + entry.data + entry.after
        directory += line
        number += 1
    said = number if count is None else count
    place = len(body) if at is None else at
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, said, said, len(directory), place, 0)
    return bytes(body + directory) + end + tail


@cache
def records_of(what: str) -> dict[str, bytes]:
    """Return the records of a sound file, by name: of a module, weights, or a training."""
    model = net()
    payloads: dict[str, Any] = {
        "module": model,
        "weights": dict(model.state_dict()),
        "training": {"model": dict(model.state_dict()), "epoch": 3},
    }
    stream = io.BytesIO()
    torch.save(payloads[what], stream)
    return records_in(stream.getvalue())


def records_in(content: bytes) -> dict[str, bytes]:
    """Return the records of a torch zip, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def entries_of(records: Mapping[str, bytes], root: str = "net") -> list[Entry]:
    """Return the entries of a torch zip."""
    return [Entry(f"{root}/{name}", data) for name, data in records.items()]


def torch_zip(what: str = "module", **records: bytes) -> bytes:
    """Return a sound file with other records, named with `_` for what no name may hold."""
    found = dict(records_of(what))
    for name, data in records.items():
        found[name.replace("__", "/").replace("_", ".")] = data
    return zipped(entries_of(found))


def pickled(code: bytes, what: str = "training") -> bytes:
    """Return a sound file whose pickle goes on before it stops; its model is on the stack."""
    whole = records_of(what)["data.pkl"]
    return torch_zip(what, data_pkl=whole[:-1] + code + STOP)


def bare(code: bytes) -> bytes:
    """Return a torch zip with a pickle of one's own."""
    return torch_zip(data_pkl=code)


def item(code: bytes, key: str = "x") -> bytes:
    """Return what puts one more value into the dictionary on the stack."""
    return text(key) + code + b"s"


def name_(module: str, attribute: str) -> bytes:
    """Return what pushes a class or function."""
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    """Return what pushes a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Return what pushes a number."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def pushed(value: Any) -> bytes:
    """Return what pushes plain data; bytes are operations already."""
    match value:
        case bytes():
            return value
        case bool() | None:
            return {True: b"\x88", False: b"\x89", None: b"N"}[value]
        case int():
            return number(value)
        case str():
            return text(value)
        case tuple():
            return b"(" + b"".join(map(pushed, value)) + b"t"
        case list():
            return b"](" + b"".join(map(pushed, value)) + b"e"
        case dict():
            items = b"".join(pushed(key) + pushed(item) for key, item in value.items())
            return b"}(" + items + b"u"
    raise TypeError(type(value))


def call(module: str, attribute: str, *args: Any) -> bytes:
    """Return what calls a function."""
    return name_(module, attribute) + pushed(args) + b"R"


def new(module: str, attribute: str, *args: Any) -> bytes:
    """Return what makes an object without calling its constructor."""
    return name_(module, attribute) + pushed(args) + b"\x81"


def storage(key: str = "0", count: Any = 216, kind: str = "FloatStorage") -> bytes:
    """Return what pushes a storage; the sound one of the name 0 has 216 elements."""
    return pushed(("storage", name_("torch", kind), key, "cpu", count)) + b"Q"


def tensor(
    size: Any = (8, 3, 3, 3), stride: Any = (27, 9, 3, 1), offset: Any = 0, stored: bytes = b""
) -> bytes:
    """Return what makes a tensor on a storage."""
    hooks = b"ccollections\nOrderedDict\n)R"
    args = (stored or storage(), offset, size, stride, False, hooks)
    return call("torch._utils", "_rebuild_tensor_v2", *args)


def safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a safetensors file with a header, as JSON or as bytes."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def bomb(count: int) -> bytes:
    """Return deflated zeros, a thousandth of so many MiB; nothing is compressed twice."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return first * count + deflate.flush(zlib.Z_FINISH)

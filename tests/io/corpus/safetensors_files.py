"""safetensors with headers that no writer of them would write."""

import io
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import save

from tests.io.corpus.case import Case, net
from tests.io.corpus.raw import safetensors

AGAIN = "save or download it again"
FLIPS = "do not use it: programs would read different tensors"


@cache
def whole() -> tuple[dict[str, Any], bytes]:
    """Return the header and the data of a sound file."""
    content = save({name: tensor.contiguous() for name, tensor in net().state_dict().items()})
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def changed(**changes: Any) -> bytes:
    """Return the sound file with one tensor described in another way."""
    header, data = whole()
    return safetensors({**header, "head.bias": {**header["head.bias"], **changes}}, data)


def headed(**entries: Any) -> bytes:
    """Return the sound file with more in its header."""
    header, data = whole()
    return safetensors({**header, **entries}, data)


def text(piece: str) -> bytes:
    """Return the sound file with text put into its header, before the last brace."""
    header, data = whole()
    return safetensors(json.dumps(header)[:-1].encode() + piece.encode() + b"}", data)


def one(text: bytes, data: bytes = bytes(8)) -> bytes:
    """Return a file with a header, unchanged."""
    return safetensors(text, data)


def _lengths() -> bytes:
    header, _ = whole()
    return json.dumps(header).encode()


def _huge(folder: Path) -> None:
    with (folder / "net.pt").open("wb") as stream:
        stream.write(struct.pack("<Q", 90 << 20) + b"{")
        stream.truncate(100 << 20)


def _entry(shape: str = "[2]", offsets: str = "[0,8]", dtype: str = '"F32"') -> str:
    return f'"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'


def entry(**fields: str) -> bytes:
    """Return a file of one tensor."""
    return one(f"{{{_entry(**fields)}}}".encode())


def many(count: int) -> bytes:
    """Return a file of many empty tensors."""
    stream = io.StringIO()
    for n in range(count):
        stream.write(f'"t{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}},')
    return one(f"{{{stream.getvalue()[:-1]}}}".encode(), b"")


def made(name: str, content: bytes, says: str = AGAIN, *, tree: int = 3, code: int = 3) -> Case:
    """Return the case of a file."""
    return Case(name, content, says, code, {"tree": tree}, file="net.safetensors")


CASES = (
    made("header of 2**63 bytes", safetensors(_lengths(), length=1 << 63), "error"),
    made("header of 2**64 - 1 bytes", safetensors(_lengths(), length=(1 << 64) - 1), "error"),
    made("header of no bytes", safetensors(b"{}", length=0), "error"),
    made("header longer than the file", safetensors(b"{}", length=999), "it is cut short"),
    made("header cut by one byte", safetensors(_lengths(), length=len(_lengths()) - 1)),
    made("header that is empty", safetensors(b"{}      "), "it holds no tensors"),
    made("header of a list", safetensors(b"[1, 2]"), "error"),
    made("header that stops", safetensors(b'{"a":')),
    made("header followed by junk", safetensors(b"{} x"), AGAIN),
    made("header that is no UTF-8", safetensors(b'{"a\xff": 1}')),
    made("header in UTF-16", safetensors('{"a": 1}'.encode("utf-16")), "error"),
    made("header nested too deep", safetensors(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}")),
    made(
        "header of mappings nested too deep", safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    ),
    made("header with NaN", text(',"x":NaN')),
    made("header with infinity", entry(offsets="[0,Infinity]")),
    made("header with a number of 10,000 digits", entry(shape=f"[{'9' * 10_000}]")),
    made("header with 2**64", entry(shape="[18446744073709551616]")),
    made(
        "tensor named twice",
        text(',"head.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'),
        "names 'head.bias' twice",
    ),
    made(
        "field named twice",
        one(b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}'),
        "twice",
    ),
    made(
        "metadata named twice",
        one(f'{{"__metadata__":{{"a":"1","a":"2"}},{_entry()}}}'.encode()),
        "twice",
    ),
    made(
        "half a character",
        one(rb'{"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
        tree=0,
    ),
    made("shape that disagrees", changed(shape=[3]), tree=0),
    made("shape of floats", changed(shape=[2.0])),
    made("shape of texts", changed(shape=["2"])),
    made("shape of truths", changed(shape=[True, True])),
    made("shape below nought", changed(shape=[-2])),
    made("shape that overflows", changed(shape=[1 << 62, 1 << 62]), tree=0),
    made("shape that is no list", changed(shape=2)),
    made("no shape", one(b'{"a":{"dtype":"F32","data_offsets":[0,8]}}')),
    made("no dtype", one(b'{"a":{"shape":[2],"data_offsets":[0,8]}}')),
    made("no offsets", one(b'{"a":{"dtype":"F32","shape":[2]}}')),
    made("dtype that is none", changed(dtype="F33"), tree=0),
    made("dtype that is a number", changed(dtype=7)),
    made("offsets the wrong way round", changed(data_offsets=[8, 0])),
    made("offsets below nought", changed(data_offsets=[-8, 0]), tree=0),
    made("offsets of floats", changed(data_offsets=[0.0, 8.0])),
    made("one offset", changed(data_offsets=[8])),
    made("offsets beyond the file", changed(data_offsets=[1 << 40, (1 << 40) + 8]), tree=0),
    made("tensors that overlap", changed(data_offsets=[0, 8]), tree=0),
    made("tensor that is text", text(',"x":"y"')),
    made("tensor that is nothing", text(',"x":null')),
    made("hole before the tensor", entry(offsets="[4,12]"), tree=0),
    made("bytes that belong to nothing", one(f"{{{_entry()}}}".encode(), bytes(12)), tree=0),
    made("cut in the data", one(f"{{{_entry()}}}".encode(), bytes(4)), tree=0),
    made("metadata of a list", headed(__metadata__=["a"])),
    made("metadata of a text", headed(__metadata__="a")),
    made("metadata of numbers", headed(__metadata__={"a": 1})),
    made("metadata of mappings", headed(__metadata__={"a": {"b": "c"}})),
    Case("header of 90 MB of zeros", _huge, AGAIN, file="net.pt"),
    made("20,000 empty tensors", many(20_000), "does not fit", tree=0, code=2),
)

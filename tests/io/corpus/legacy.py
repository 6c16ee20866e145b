"""Files of before torch 1.6 that are damaged or hostile."""

import io
from functools import cache

import torch

from tests.io.corpus.case import Case, net
from tests.io.corpus.raw import call, item, pushed

SEEN = {"tree": 0}
MAGIC = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\2M\xe9\3."


@cache
def whole(what: str = "training") -> bytes:
    """Return a sound file."""
    payload = {"model": dict(net().state_dict())} if what == "training" else net()
    stream = io.BytesIO()
    torch.save(payload, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def _keys() -> int:
    """Return where the payload has stopped and the keys of the storages begin."""
    return whole().rindex(b".\x80\2]q\0") + 1


def pickled(code: bytes) -> bytes:
    """Return a sound file whose payload goes on before it stops."""
    return whole()[: _keys() - 1] + code + whole()[_keys() - 1 :]


def behind(code: bytes) -> bytes:
    """Return a sound file with something else in place of the keys of its storages."""
    return whole()[: _keys()] + b"\x80\2" + code + b"." + whole()[_keys() :]


def before(code: bytes) -> bytes:
    """Return a sound file with something else in place of the version."""
    return MAGIC + b"\x80\2" + code + b"." + whole()[len(MAGIC) + len(VERSION) :]


def storage(count: int) -> bytes:
    """Return what pushes a storage of which the file knows nothing."""
    kind = b"ctorch\nFloatStorage\n"
    return pushed(("storage", kind, "7", "cpu", count, None)) + b"Q"


END = len(whole())
ASKS = "the safe loader refuses its pickle"
RUN = "would have to be"
CASES = (
    Case("old file of a module", whole("module"), "in the format of before torch 1.6", codes=SEEN),
    Case("old file of a magic number", MAGIC, "error"),
    Case(
        "old file that runs a command",
        pickled(item(call("os", "system", "touch canary"))),
        RUN,
        4,
        SEEN,
    ),
    Case("old file that runs Python", pickled(item(call("builtins", "eval", "1"))), RUN, 4, SEEN),
    Case(
        "old file that runs a command first",
        before(call("os", "system", "touch canary")),
        RUN,
        4,
        SEEN,
    ),
    Case(
        "old file that runs a command last",
        behind(call("os", "system", "touch canary")),
        "no record of its storage",
        3,
        SEEN,
    ),
    Case(
        "old file of a large layer",
        pickled(item(call("torch.nn.modules.linear", "Linear", 50_000, 50_000))),
        "the constructor of",
        4,
        SEEN,
    ),
    Case(
        "old file of a large array",
        pickled(item(call("builtins", "bytearray", 8 << 30))),
        "reserves memory",
        4,
    ),
    Case(
        "old file of a large array first",
        before(call("builtins", "bytearray", 8 << 30)),
        "reserves memory",
        4,
    ),
    Case(
        "old file of a large array last",
        behind(call("builtins", "bytearray", 8 << 30)),
        "reserves memory",
        4,
    ),
    Case("old file of a large storage", pickled(item(storage(1 << 40))), "it is damaged", 3, SEEN),
    Case(
        "old file of a storage below nought", pickled(item(storage(-4))), "it is damaged", 3, SEEN
    ),
    Case(
        "old file of a storage that does not follow",
        pickled(item(storage(4))),
        "no record of",
        3,
        SEEN,
    ),
    Case("old file of extensions", pickled(item(b"\x82\1")), ASKS),
    Case(
        "old file of another machine",
        whole().replace(b"little_endian", b"little_endiaX"),
        "error",
        codes={"tree": 0, "check": 0, "replace": 0, "load": 0},
    ),
    *(
        Case(
            f"old file cut to {cut} bytes",
            whole()[:cut],
            "error",
            codes=SEEN if cut > END - 2000 else {},
        )
        for cut in (20, 40, 200, 1500, END - 600, END - 1)
    ),
    Case(
        "old file with another name",
        whole().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3", 1),
        "it is damaged",
    ),
    Case(
        "old file with a bit flip in a size",
        whole()[:-8] + b"\xff" * 8,
        "error",
        codes=dict.fromkeys(("tree", "check", "replace", "load"), 0),
    ),
)

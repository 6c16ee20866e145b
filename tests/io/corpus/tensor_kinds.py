"""Modules with buffers of odd kinds, sound ones and hostile ones: sparse, nested, quantised."""

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from tests.io.corpus.case import Case, net
from tests.io.corpus.raw import call, item, name_, pickled, storage, tensor

SOUND: Mapping[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse by rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "meta": lambda: torch.empty(1 << 40, device="meta"),
    "conjugated": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "negated": lambda: torch.ones(3, dtype=torch.complex64).conj().imag,
    "float8": lambda: torch.zeros(3).to(torch.float8_e5m2),
    "uint64": lambda: torch.zeros(3).to(torch.uint64),
}


def _in(place: str, make: Callable[[], torch.Tensor]) -> Callable[[Path], object]:
    """Return what writes a module with a buffer, beside the replaced one or inside it."""

    def write(folder: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # of torch: some kinds may change
            model = net()
            model.get_submodule(place).register_buffer("odd", make())
            stream = io.BytesIO()
            torch.save(model, stream)
        (folder / "net.pt").write_bytes(stream.getvalue())

    return write


def _unshaped(*, weights: bool) -> bytes:
    """Return a file with a tensor of a lazy layer that has not run."""
    model, bare = net(), torch.nn.parameter.UninitializedBuffer()
    model.get_submodule("gate").register_buffer("odd", bare)
    stream = io.BytesIO()
    torch.save({**net().state_dict(), "odd": bare} if weights else model, stream)
    return stream.getvalue()


def _sparse(layout: str, *args: object) -> bytes:
    made = call("torch.serialization", "_get_layout", f"torch.sparse_{layout}")
    return call("torch._utils", "_rebuild_sparse_tensor", made, args)


def _quantised(*quantiser: object) -> bytes:
    hooks = b"ccollections\nOrderedDict\n)R"
    args = (storage(), 0, (4,), (1,), quantiser, False, hooks)
    return call("torch._utils", "_rebuild_qtensor", *args)


def _nested(*args: object) -> bytes:
    return call("torch._utils", "_rebuild_nested_tensor", *args)


PAIR, SQUARE = tensor((2,), (1,)), tensor((2, 2), (2, 1))
AFFINE, PER_CHANNEL = (name_("torch", f"per_{kind}_affine") for kind in ("tensor", "channel"))
META = "_rebuild_meta_tensor_no_storage"
HOSTILE: Mapping[str, bytes] = {
    "sparse of a huge shape": _sparse("coo", SQUARE, PAIR, (1 << 62, 1 << 62), False),
    "rows of floats": _sparse("csr", PAIR, PAIR, PAIR, (1 << 40, 2)),
    "rows of a negative size": _sparse("csr", PAIR, PAIR, PAIR, (-1, 2)),
    "blocks of no shape": _sparse("bsr", PAIR, PAIR, PAIR, (4, 4)),
    "a layout that is none": _sparse("nothing", PAIR, PAIR, (2,)),
    "a channel that is not there": _quantised(PER_CHANNEL, PAIR, PAIR, 99),
    "scales that are texts": _quantised(PER_CHANNEL, "a", "b", 0),
    "no scale": _quantised(AFFINE),
    "parts outside it": _nested(PAIR, SQUARE, SQUARE, PAIR),
    "parts that are numbers": _nested(PAIR, 5, "x", 7),
    "a negative size without data": call(
        "torch._utils", META, name_("torch", "float32"), (-1,), (1,), False
    ),
}

NO_SHAPE, SEEN = "never got a shape", {"tree": 0}
CASES = (
    Case("weights without a shape", _unshaped(weights=True), NO_SHAPE),
    Case(
        "module with a buffer without a shape", _unshaped(weights=False), NO_SHAPE, 3, {"tree": 0}
    ),
    *(
        Case(f"{kind} buffer in {place}", _in(place, make), "error", 0, {"check": 0})
        for kind, make in SOUND.items()
        for place in ("stem", "gate")
    ),
    *(
        Case(f"tensor with {what}", pickled(item(code)), "error", 3, {"tree": 0})
        for what, code in HOSTILE.items()
    ),
)

"""Arrays in files."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modswap.core.errors import CheckpointError, InputError, UsageError
from modswap.ops.heal.data import arrays
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest
from tests.ops.heal.data.takers import convolution, taker_of

NET = nn.Linear(4, 2)
ROWS = torch.arange(160.0).view(40, 4)


def npy(tensor: torch.Tensor, *, by_columns: bool = False) -> bytes:
    """Return an array as NumPy writes it."""
    kinds = {torch.float32: "<f4", torch.int64: "<i8", torch.uint8: "|u1"}
    kind = kinds[tensor.dtype]
    shape = tuple(tensor.shape)
    text = f"{{'descr': '{kind}', 'fortran_order': {by_columns}, 'shape': {shape}, }}\n"
    ordered = tensor.permute(*reversed(range(tensor.ndim))) if by_columns else tensor
    data = bytes(ordered.contiguous().flatten().view(torch.uint8).tolist())
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


def npz(file: Path, **named: torch.Tensor) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, tensor in named.items():
            archive.writestr(f"{name}.npy", npy(tensor))
    return file


def saved(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("by_columns", [False, True])
def test_array_of_numpy_is_taken_row_by_row(tmp_path: Path, *, by_columns: bool) -> None:
    file = saved(tmp_path / "x.npy", npy(ROWS, by_columns=by_columns))

    samples = open_samples(file, taker_of(NET, 1, 4))
    some = open_samples(file, taker_of(NET, 1, 4), DataRequest(most=32))

    assert samples.count == 40
    assert samples.description == f"40 samples of {file}, as they are"
    assert torch.equal(samples.batch([3, 1]).args[0], ROWS[[3, 1]])
    assert some.description == f"32 of 40 samples of {file}, as they are"
    taken = some.batch(range(32)).args[0][:, 0]
    assert taken.tolist() == sorted(set(taken.tolist()))
    assert not torch.equal(taken, ROWS[:32, 0])


def test_archive_of_one_array_and_labels_gives_both(tmp_path: Path) -> None:
    file = npz(tmp_path / "x.npz", images=ROWS, y=torch.arange(40))

    batch = open_samples(file, taker_of(NET, 1, 4)).batch([5, 39])

    assert torch.equal(batch.args[0], ROWS[[5, 39]])
    assert batch.labels.tolist() == [5, 39]


def test_tensors_of_safetensors_are_arguments_by_name(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    net = nn.Bilinear(4, 3, 2)
    save_file({"input2": ROWS[:, :3].clone(), "input1": ROWS, "extra": ROWS.clone()}, file)
    both = taker_of(net, 1, 4)
    both = type(both)(net, type(both.call)((both.call.args[0], {"shape": [1, 3]}), {}))

    samples = open_samples(file, both)
    batch = samples.batch([7])

    assert [one.shape for one in batch.args] == [(1, 4), (1, 3)]
    assert torch.equal(batch.args[1], ROWS[7:8, :3])
    assert samples.notes == ("the model takes no 'extra': left out",)
    file = npz(tmp_path / "x.npz", arr_0=ROWS, arr_1=ROWS[:, :3])
    assert torch.equal(open_samples(file, both).batch([7]).args[1], ROWS[7:8, :3])
    file = npz(tmp_path / "x.npz", inputs=ROWS, other=ROWS)
    with pytest.raises(InputError, match=r"none of them an argument.*did you mean 'input1'"):
        open_samples(file, both)
    file = npz(tmp_path / "x.npz", qqq=ROWS, zzz=ROWS)
    with pytest.raises(InputError, match=r"'qqq', 'zzz', none .*name them 'input1', 'input2'"):
        open_samples(file, both)


def test_arrays_that_do_not_fit_one_another_are_refused(tmp_path: Path) -> None:
    taker = taker_of(NET, 1, 4)
    for file, words in (
        (npz(tmp_path / "a.npz", x=ROWS, y=torch.arange(39)), r"lengths: x \(40, 4\), y \(39,\)"),
        (npz(tmp_path / "b.npz"), "it holds no arrays"),
        (npz(tmp_path / "c.npz", y=torch.arange(40)), "it holds labels alone"),
        (saved(tmp_path / "d.npy", npy(torch.tensor(3.0))), r"lengths: array \(\)"),
        (saved(tmp_path / "e.npy", npy(ROWS[:31])), "it gives 31 samples, expected 32 or more"),
        (saved(tmp_path / "f.npy", npy(ROWS[:1])), "it gives 1 sample, expected 32 or more"),
    ):
        with pytest.raises(InputError, match=words):
            open_samples(file, taker)


def test_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taker = taker_of(NET, 1, 4)
    whole = npz(tmp_path / "whole.npz", x=ROWS).read_bytes()
    locked = bytearray(whole)
    locked[locked.rindex(b"PK\1\2") + 8] |= 1
    torn = bytearray(whole)
    torn[60:80] = bytes(20)
    save_file({"x": ROWS}, tmp_path / "x.safetensors")
    tensors = (tmp_path / "x.safetensors").read_bytes()
    for name, data, words in (
        ("a.npy", b"hello", "it is no array of numbers that NumPy wrote"),
        ("b.npy", npy(ROWS)[:-4], "it is cut short"),
        ("c.npz", bytes(locked), "it is locked by a password"),
        ("d.npz", bytes(torn), "it is damaged or cut short"),
        ("e.safetensors", tensors[:-4], "it is damaged or cut short"),
        ("f.npz", b"hello", "it is damaged or cut short"),
    ):
        with pytest.raises(CheckpointError, match=words):
            open_samples(saved(tmp_path / name, data), taker)
    monkeypatch.setattr(zipfile, "ZipFile", _refuse)
    with pytest.raises(CheckpointError, match="it cannot be read: Permission denied"):
        open_samples(saved(tmp_path / "g.npz", b"hello"), taker)


def _refuse(*_: Any) -> Any:
    raise PermissionError(13, "Permission denied")


def test_larger_samples_than_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path / "x.npy", npy(ROWS))
    by_columns = saved(tmp_path / "y.npy", npy(ROWS, by_columns=True))
    monkeypatch.setattr(arrays, "available", lambda: 2 * 35 * 16)

    assert open_samples(file, taker_of(NET, 1, 4), DataRequest(most=35)).count == 35
    for given, most in ((file, 36), (by_columns, 35)):
        with pytest.raises(InputError, match=r"its samples take 0\.0 GB, the machine has 0\.0 GB"):
            open_samples(given, taker_of(NET, 1, 4), DataRequest(most=most))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.csv", json.dumps([1]).encode())

    with pytest.raises(UsageError, match=r"'x\.csv' is of no known kind; give a folder of"):
        open_samples(file, taker_of(NET, 1, 4))
    with pytest.raises(UsageError, match="it is one picture, expected 32 or more; name the folder"):
        open_samples(saved(tmp_path / "y.JPG", b"x"), taker_of(NET, 1, 4))
    with pytest.raises(UsageError, match=r"no callable in it is named; write z\.py:callable, of"):
        open_samples(saved(tmp_path / "z.py", b"x"), taker_of(NET, 1, 4))
    with pytest.raises(CheckpointError, match=r"no such file; did you mean 'x\.csv'"):
        open_samples(tmp_path / "x.cvs", taker_of(NET, 1, 4))


def test_samples_are_run_before_anything_starts(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.npy", npy(torch.ones(40, 5)))
    with pytest.raises(InputError, match=r"does not take \(2, 5\): RuntimeError.*such as"):
        open_samples(file, taker_of(NET, 1, 4))
    net = nn.Linear(4, 2)
    nn.init.constant_(net.bias, torch.inf)
    with pytest.raises(InputError, match="output for the first samples holds NaN or infinity"):
        open_samples(saved(tmp_path / "y.npy", npy(ROWS)), taker_of(net, 1, 4))


def test_bytes_are_pictures(tmp_path: Path) -> None:
    drawn = torch.randint(0, 256, (40, 20, 12, 3), dtype=torch.uint8)
    taker = taker_of(convolution(), 1, 3, 12, 12)
    file = saved(tmp_path / "x.npy", npy(drawn))

    samples = open_samples(file, taker, DataRequest(mean=(0.5,), std=(0.5,)))

    assert samples.description == f"40 samples of {file}, pictures of 12x12"
    assert samples.notes == (
        "bytes are taken as pictures, normalised by mean 0.5 and deviation 0.5, as given",
    )
    expected = drawn[7, 4:16].permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(samples.batch([7]).args[0][0], expected)


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(4000000000000, 4)", "it is cut short"),
        ("(9223372036854775807, 9223372036854775807)", "it is cut short"),
        ("(4" + "+4" * 20_000 + ",)", "it is no array of numbers"),
        ("(" + "-" * 20_000 + "4,)", "it is no array of numbers"),
    ],
    ids=["terabytes", "overflow", "sums", "signs"],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_header_that_promises_more_than_the_file_has_takes_no_room(
    tmp_path: Path, shape: str, message: str, ending: str
) -> None:
    file, data = tmp_path / f"x.{ending}", header(shape) + bytes(64)
    if ending == "npz":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", data)
    else:
        file.write_bytes(data)

    with pytest.raises(CheckpointError, match=message):
        open_samples(file, taker_of(NET, 1, 4))


def test_endless_empty_rows_are_not_counted_out(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.npy", header("(1000000000000000, 0)"))

    with pytest.raises(InputError):
        open_samples(file, taker_of(NET, 1, 4))


def test_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    file, rows = tmp_path / "x.npz", 200_000_000
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", header(f"({rows}, 4)"))
    # a directory that promises 3.2 GB, as a bomb's does; nothing of it is unpacked
    data = bytearray(file.read_bytes())
    entry = data.rindex(b"PK\1\2")
    data[entry + 24 : entry + 28] = struct.pack("<I", 16 * rows)
    file.write_bytes(data)

    with pytest.raises(CheckpointError, match="it unpacks to 3,200,000,000 bytes, expected at"):
        open_samples(file, taker_of(NET, 1, 4))

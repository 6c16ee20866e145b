"""Arrays in files: .npy, .npz and .safetensors, along the first axis of each."""

import random
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from modswap.core.errors import InputError
from modswap.core.words.printable import tame
from modswap.io.recognise.look import Look, header_of_safetensors, look_at, unreadable
from modswap.ops.first_input.from_file import (
    NO_ARRAY,
    array_header,
    no_array,
    numbers,
    refuse_short,
)
from modswap.ops.heal.data.columns import by_name
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.heal.samples import Samples
from modswap.ops.run.process_memory import available

_MOST_IN_ORDER = 1 << 24  # samples of which all are put in an order
# of arrays in a zip: times its bytes, and more bytes that they may take
_MOST_TIMES, _MOST_MORE = 64, 512 << 20
Rows = Callable[[Sequence[int]], torch.Tensor]  # the rows of some numbers, which rise


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file, of which some rows are read."""

    shape: tuple[int, ...]
    nbytes: int
    rows: Rows
    is_whole: bool = False  # whether all of it is read for some rows


def array_samples(file: Path, taker: Taker, request: DataRequest) -> Samples:
    """Return the samples in a file of arrays; of more than `request.most` the seed chooses.

    Several arrays are arguments by name; `labels` or `y` is that of the labels.

    Raises:
        CheckpointError: If the file cannot be read.
        InputError: If its arrays do not fit one another or the model.
    """
    look = look_at(file)
    with _READERS[file.suffix.lower()](look) as arrays:
        count = _count(arrays, str(file))
        chosen = _some(count, request)
        _refuse_large(arrays, len(chosen) / max(1, count), str(file))
        read = {name: array.rows(chosen) for name, array in arrays.items()}
    shown = f"{len(chosen):,}" if len(chosen) == count else f"{len(chosen):,} of {count:,}"
    named = by_name(read, taker, str(file))
    return named.samples(taker, request, str(file), tame(f"{shown} samples of {file}"))


def _count(arrays: Mapping[str, StoredArray], where: str) -> int:
    """Return the length of all arrays."""
    fix = "save arrays with one row for each sample"
    if not arrays:
        raise InputError("it holds no arrays", where, fix)
    shapes = {name: array.shape for name, array in arrays.items()}
    lengths = {shape[0] if shape else None for shape in shapes.values()}
    if len(lengths) > 1 or None in lengths:
        shown = ", ".join(f"{name or 'array'} {shape}" for name, shape in list(shapes.items())[:6])
        raise InputError(tame(f"its arrays are of several lengths: {shown}"), where, fix)
    return next(length for length in lengths if length is not None)


def _some(count: int, request: DataRequest) -> list[int]:
    """Return the numbers of the samples that are taken, in their order."""
    if count <= request.most:
        return list(range(count))
    if count > _MOST_IN_ORDER:  # an order of all would take 8 bytes for each
        return sorted(random.Random(request.seed).sample(range(count), request.most))  # noqa: S311 - no secret
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(request.seed))
    return sorted(drawn[: request.most].tolist())


def _refuse_large(arrays: Mapping[str, StoredArray], share: float, where: str) -> None:
    """Refuse rows that the memory of the machine does not hold, twice."""
    nbytes = sum(one.nbytes * (1 if one.is_whole else share) for one in arrays.values())
    free = available()
    if free is not None and 2 * nbytes > free:
        what = f"its samples take {nbytes / 1e9:,.1f} GB, the machine has {free / 1e9:,.1f} GB free"
        raise InputError(what, where, "take fewer samples, or smaller ones")


@contextmanager
def _npy(look: Look) -> Iterator[dict[str, StoredArray]]:
    with _reading(look), look.file.open("rb") as stream:
        yield {"": _stored(stream, look.file.stat().st_size)}


@contextmanager
def _npz(look: Look) -> Iterator[dict[str, StoredArray]]:
    with _reading(look), zipfile.ZipFile(look.file) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        if any(entry.flag_bits & 1 for entry in entries):
            raise ValueError("it is locked by a password")
        _refuse_swollen(entries, look.file.stat().st_size)
        yield {
            entry.filename.removesuffix(".npy"): _stored(archive.open(entry), entry.file_size)
            for entry in entries
        }


def _refuse_swollen(entries: Sequence[zipfile.ZipInfo], nbytes: int) -> None:
    """Refuse arrays that are far larger than their file: unpacking them may take hours."""
    unpacked, most = sum(entry.file_size for entry in entries), _MOST_TIMES * nbytes + _MOST_MORE
    if unpacked > most:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, expected at most {most:,}")


@contextmanager
def _safetensors(look: Look) -> Iterator[dict[str, StoredArray]]:
    header_of_safetensors(look)
    with _reading(look), safe_open(look.file, framework="pt", device="cpu") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dictionary

        def stored(tensor: torch.Tensor) -> StoredArray:
            # the tensor is mapped: only the rows that are taken are read
            return StoredArray(tuple(tensor.shape), tensor.nbytes, lambda rows: tensor[[*rows]])

        yield {name: stored(tensor) for name, tensor in tensors.items()}


_READERS = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}


@contextmanager
def _reading(look: Look) -> Iterator[None]:
    """Turn errors of reading a file into its own."""
    try:
        yield
    except (SafetensorError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise look.error(f"it is damaged or cut short: {error}"[:200]) from None
    except OSError as error:
        raise unreadable(look.file, error) from None
    except NO_ARRAY as error:
        raise look.error(*no_array(error)) from None


def _stored(stream: Any, nbytes: int) -> StoredArray:
    """Return the array whose header is next in a stream of so many bytes."""
    header = array_header(stream)
    start = stream.tell()
    refuse_short(header, nbytes - start)
    row = header._replace(shape=header.shape[1:], by_columns=False)

    def rows(chosen: Sequence[int]) -> torch.Tensor:
        if header.by_columns:
            stream.seek(start)
            return numbers(header, stream.read(header.nbytes))[[*chosen]]
        data = bytearray()
        for number in chosen:
            stream.seek(start + number * row.nbytes)
            data += stream.read(row.nbytes)
        return numbers(header._replace(shape=(len(chosen), *row.shape)), data)

    return StoredArray(header.shape, header.nbytes, rows, header.by_columns)

"""Read the metadata of a folder of `torch.distributed.checkpoint` as data."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any

from modswap.core.budget import EXPANDED_TIMES, expanded_flaw
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.pickled.data import MAX_PICKLE_BYTES, Instance, Name, UnreadableError, read_pickles
from modswap.io.recognise.implied_tree import elements
from modswap.io.recognise.links import place_of
from modswap.io.recognise.look import Look
from modswap.io.recognise.small_files import read_small

METADATA = ".metadata"
_CHECKPOINT = "torch.distributed.checkpoint."
TENSOR = Name(f"{_CHECKPOINT}metadata", "TensorStorageMetadata")
CHUNK = Name(f"{_CHECKPOINT}metadata", "ChunkStorageMetadata")
SIZE = Name("torch", "Size")
_KNOWN = {
    *(f"{_CHECKPOINT}metadata.{name}" for name in (
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties",
        "ChunkStorageMetadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
    )),
    f"{_CHECKPOINT}filesystem._StorageInfo",
    "torch.Size", "torch.device", "torch.serialization._get_layout",
    *(f"pathlib.{local}{name}" for local in ("", "_local.") for name in (
        "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath",
    )),
    "collections.OrderedDict",
}  # fmt: skip
# the dtypes of torch with the bytes of an item
DTYPES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex128": 16,
    "complex64": 8, "complex32": 4, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1,
    "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
_MAX_COMPARED = 512  # chunks of a tensor that are compared with one another
_AGAIN = "save it again where it was made"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a tensor, or an object that is no tensor, as one rank wrote it.

    `offsets` and `sizes` are its place in the tensor; `start` and `nbytes` its place in `file`,
    which is below the folder. `index` is its entry in the metadata: the key, and the place.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int
    nbytes: int
    index: tuple[Instance, Instance]


@dataclass(frozen=True, slots=True)
class Item:
    """A tensor of a distributed checkpoint, or an object that is none.

    `keys` lead from the outside to it; `dtype` is as torch calls it, and empty if it is no tensor.
    """

    name: str
    keys: tuple[str | int, ...]
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]

    @property
    def numel(self) -> int:
        """Return how many elements it has."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Return the bytes of its elements."""
        return self.numel * DTYPES.get(self.dtype, 0)


@dataclass(frozen=True, slots=True)
class Distributed:
    """A distributed checkpoint: its tensors and objects by name, and its metadata as data."""

    folder: Path
    items: Mapping[str, Item]
    metadata: Instance

    @property
    def tensors(self) -> Iterator[Item]:
        """Yield the items that are tensors."""
        return (item for item in self.items.values() if item.dtype)


def is_distributed(look: Look) -> bool:
    """Return whether it is a folder of `torch.distributed.checkpoint`."""
    return METADATA in look.names and not look.head and look.file.is_dir()


def read_distributed(folder: Path) -> Distributed:
    """Return the items of a folder of `torch.distributed.checkpoint`; nothing in it is executed.

    Raises:
        CheckpointError: If its metadata are damaged, or disagree with its files.
        UnsafeError: If they name classes that do not belong in such metadata.
    """
    try:
        metadata, names = _parsed(folder / METADATA)
        _screen(names, folder)
        state = _state(metadata, Name(f"{_CHECKPOINT}metadata", "Metadata"))
        stored = _Stored(folder, dict(_places(state["storage_data"])))
        planner = state.get("planner_data")
        keys = planner if isinstance(planner, dict) else {}
        items = {
            _text(name): _item(name, value, keys.get(name, (name,)), stored)
            for name, value in _entries(state["state_dict_metadata"])
        }
        _refuse_shared(items.values(), sum(stored.sizes.values()))
    except (UnreadableError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        what = f"its {METADATA} cannot be read: {_reason(error)}"
        raise CheckpointError(what, str(folder), _AGAIN) from None
    return Distributed(folder, items, metadata)


def _refuse_shared(items: Iterable[Item], file_bytes: int) -> None:
    """Refuse items that share the bytes of the files far more often than ties and ranks do."""
    tensors = objects = 0
    for item in items:
        tensors += item.nbytes
        objects += 0 if item.dtype else sum(chunk.nbytes for chunk in item.chunks)
    if flaw := expanded_flaw(tensors, file_bytes):
        raise UnreadableError(flaw)
    if objects > EXPANDED_TIMES * file_bytes:
        raise UnreadableError("its objects share the bytes of its files over and over")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be opened"
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)[:300]


def _parsed(file: Path) -> tuple[Instance, tuple[Name, ...]]:
    try:
        data = read_small(file, MAX_PICKLE_BYTES, folder=file.parent)
    except CheckpointError as error:
        what = f"its {METADATA} is no file of a size that metadata have: {error.what}"
        raise CheckpointError(what, str(file.parent), error.fix) from None
    (value,), names = read_pickles(io.BytesIO(data), 1, modern=True)
    return value, names


def _screen(names: tuple[Name, ...], folder: Path) -> None:
    """Refuse metadata that name classes which do not belong in them; nothing admits these."""
    dtypes = {f"torch.{name}" for name in DTYPES}
    odd = [str(name) for name in names if str(name) not in _KNOWN | dtypes]
    if odd:
        what = f"its {METADATA} would build {', '.join(odd[:6])}, which no such file is made of"
        fix = (
            "do not load it with torch either, which would run it; save it again where it was made"
        )
        raise UnsafeError(what, str(folder), fix)


def _state(value: Any, what: Name) -> dict[str, Any]:
    """Return the attributes of an object of a class."""
    if isinstance(value, Instance) and value.what == what and isinstance(value.state, dict):
        return value.state
    raise UnreadableError(f"it has {_kind(value)} where a {what.attribute} belongs")


def _kind(value: Any) -> str:
    return str(value.what) if isinstance(value, Instance) else type(value).__name__


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(value, dict):
        raise UnreadableError(f"it has {_kind(value)} where a dictionary belongs")
    yield from value.items()


def _text(value: Any) -> str:
    if type(value) is not str:
        raise UnreadableError(f"it has {_kind(value)} where a name belongs")
    return value


def _sides(value: Any) -> tuple[int, ...]:
    """Return the sides of a shape, or an offset."""
    match value:
        case Instance(what=Name("torch", "Size"), args=(tuple() | list() as sides,)):
            if elements(sides) is not None:
                return tuple(sides)
    raise UnreadableError("it has no shape where one belongs")


def _places(value: Any) -> Iterator[tuple[tuple[str, tuple[int, ...]], tuple[Instance, Instance]]]:
    """Yield the place of each chunk, by name and offset."""
    for index, info in _entries(value):
        state = _state(index, Name(f"{_CHECKPOINT}metadata", "MetadataIndex"))
        offset = state.get("offset")
        yield (_text(state["fqn"]), _sides(offset) if offset is not None else ()), (index, info)


class _Stored:
    """The places of all chunks, by name and offset, in the files of a folder."""

    def __init__(self, folder: Path, places: Mapping[Any, tuple[Instance, Instance]]) -> None:
        self.folder = folder
        self.places = places
        self.sizes: dict[str, int] = {}

    def chunk(self, name: str, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> Chunk:
        """Return a part of a tensor; refuse one that is nowhere, or beyond the end of its file."""
        found = self.places.get((name, offsets))
        if found is None:
            raise UnreadableError(f"it does not say where a part of {name!r:.80} lies")
        info = _state(found[1], Name(f"{_CHECKPOINT}filesystem", "_StorageInfo"))
        if info.get("transform_descriptors"):
            raise UnreadableError(f"{name!r:.80} is compressed, or changed in another way")
        file, start, nbytes = _text(info["relative_path"]), info["offset"], info["length"]
        if type(start) is not int or type(nbytes) is not int or start < 0 or nbytes < 0:
            raise UnreadableError(f"it does not say where a part of {name!r:.80} lies")
        if start + nbytes > self._size(file):
            raise UnreadableError(f"{name!r:.80} reaches beyond the end of {file!r}")
        return Chunk(offsets, sizes, file, start, nbytes, found)

    def _size(self, name: str) -> int:
        if name not in self.sizes:
            if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
                raise UnreadableError(f"it names a file outside the folder: {name!r:.80}")
            place = place_of(self.folder / name, self.folder)
            if not place.is_file():
                raise UnreadableError(f"the file {name!r:.80} that it names is not there")
            self.sizes[name] = place.stat().st_size
        return self.sizes[name]


def _item(name: str, value: Any, keys: Any, stored: _Stored) -> Item:
    if not isinstance(keys, tuple) or not keys or any(type(k) not in {str, int} for k in keys):
        raise UnreadableError(f"it does not say where {name!r:.80} belongs")
    if _kind(value) == f"{_CHECKPOINT}metadata.BytesStorageMetadata":
        return Item(name, keys, "", (), (stored.chunk(name, (), ()),))
    state = _state(value, TENSOR)
    dtype, shape = _dtype(state["properties"], name), _sides(state["size"])
    if not isinstance(state["chunks"], list):
        raise UnreadableError(f"it does not say where {name!r:.80} lies")
    parts = [_state(chunk, CHUNK) for chunk in state["chunks"]]
    chunks = tuple(stored.chunk(name, _sides(p["offsets"]), _sides(p["sizes"])) for p in parts)
    _check_tiles(name, shape, chunks)
    _check_bytes(name, DTYPES[dtype], chunks)
    return Item(name, keys, dtype, shape, chunks)


def _dtype(properties: Any, name: str) -> str:
    state = properties.state if isinstance(properties, Instance) else None
    found = state.get("dtype") if isinstance(state, dict) else (state or (None,))[0]
    if not isinstance(found, Name) or found.attribute not in DTYPES:
        raise UnreadableError(f"it gives {name!r:.80} no dtype that is known")
    return found.attribute


def _check_tiles(name: str, shape: tuple[int, ...], chunks: tuple[Chunk, ...]) -> None:
    """Refuse chunks that do not make up the tensor, each of its elements once."""
    inside = all(_is_inside(chunk, shape) for chunk in chunks)
    whole = inside and sum(prod(chunk.sizes) for chunk in chunks) == prod(shape)
    if not (whole and _are_apart([chunk for chunk in chunks if prod(chunk.sizes)])):
        raise UnreadableError(f"the parts of {name!r:.80} do not make it up, each element once")


def _check_bytes(name: str, itemsize: int, chunks: tuple[Chunk, ...]) -> None:
    """Refuse chunks of fewer bytes than their elements take: a small file could fill the memory."""
    for chunk in chunks:
        count = prod(chunk.sizes)
        if count * itemsize > chunk.nbytes:
            what = f"a part of {name!r:.80} has fewer bytes than its {count:,} elements take"
            raise UnreadableError(what)


def _is_inside(chunk: Chunk, shape: tuple[int, ...]) -> bool:
    if not len(chunk.offsets) == len(chunk.sizes) == len(shape):
        return False
    sides = zip(chunk.offsets, chunk.sizes, shape, strict=True)
    return all(offset + size <= side for offset, size, side in sides)


def _are_apart(chunks: list[Chunk]) -> bool:
    """Return whether no two chunks overlap; of very many chunks only the first are compared."""
    if len(chunks) > _MAX_COMPARED:
        first = chunks[: _MAX_COMPARED + 1]
        return len({chunk.offsets for chunk in first}) == len(first)
    return not any(_overlap(a, b) for a, b in combinations(chunks, 2))


def _overlap(a: Chunk, b: Chunk) -> bool:
    return all(
        x < y + t and y < x + s
        for x, s, y, t in zip(a.offsets, a.sizes, b.offsets, b.sizes, strict=True)
    )

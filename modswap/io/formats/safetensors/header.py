"""The header of a safetensors file: its tensors, and a dictionary of strings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange
from modswap.io.recognise.implied_tree import elements
from modswap.io.recognise.look import Look, header_of_safetensors

RECIPE, RECEIPT = "modswap.recipe", "modswap.receipt"
METADATA = "__metadata__"
OTHER = (RECIPE, RECEIPT, "format")  # metadata that are never ties
# bytes of an item, which readers that map a file want tensors to be aligned to
ITEMS = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2,
          "I16": 2, "U16": 2}  # fmt: skip
MARK = b'\\"\\u0064igests\\"'  # a key of the receipt, as it is in the bytes of a header


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a safetensors file: its dtype as the header has it, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    extent: ByteRange


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file, its tensors in the order of their bytes."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]

    @property
    def ties(self) -> dict[str, str]:
        """Return further names of tensors, with the names that they are stored under."""
        return {
            alias: name
            for alias, name in self.metadata.items()
            if alias not in self.tensors and name in self.tensors and alias not in OTHER
        }


def read_header(look: Look) -> Header:
    """Return the header of a safetensors file that its own reader has accepted."""
    length = int.from_bytes(look.head[:8], "little")
    return header_of(header_of_safetensors(look), 8 + length, look.file)


def header_of(entries: Mapping[str, Any], start: int, file: Path) -> Header:
    """Return a parsed header; the data of its file begin at `start`."""
    tensors = {
        name: StoredTensor(
            entry["dtype"],
            tuple(entry["shape"]),
            ByteRange(
                entry["data_offsets"][1] - entry["data_offsets"][0],
                file,
                start + entry["data_offsets"][0],
                name=name,
                kind="tensor",
            ),
        )
        for name, entry in entries.items()
        if name != METADATA
    }
    ordered = sorted(tensors.items(), key=lambda item: item[1].extent.start)
    return Header(dict(ordered), dict(entries.get(METADATA) or {}))


def sound_header(look: Look) -> Header:
    """Return a header whose entries are tensors, which make up the file's data.

    Raises:
        CheckpointError: If it is damaged, or cut short.
    """
    entries = header_of_safetensors(look)
    strings = entries.get(METADATA, {})
    end = 8 + int.from_bytes(look.head[:8], "little")
    sizes = [_offsets(entry) for name, entry in entries.items() if name != METADATA]
    if None in sizes or not _are_strings(strings) or not sizes:
        what = "its header is damaged: an entry is no tensor, or no string"
        raise look.error(what)
    place = 0
    for start, stop in sorted(pair for pair in sizes if pair is not None):
        if start != place or stop < start:
            raise look.error("its header is damaged: tensors overlap, or leave a gap")
        place = stop
    if end + place != look.size:
        what = f"it is cut short: its tensors end at {end + place:,} of {look.size:,} bytes"
        raise look.error(what)
    return header_of(entries, end, look.file)


def _offsets(entry: object) -> tuple[int, int] | None:
    match entry:
        case {
            "dtype": str(),
            "shape": list() as shape,
            "data_offsets": [int() as start, int() as stop],
        } if elements(shape) is not None:
            return start, stop
    return None


def _are_strings(metadata: object) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())


def encoded(header: Header) -> bytes:
    """Return the header as it is written: its length, and JSON that ends at a multiple of 8."""
    entries: dict[str, Any] = {METADATA: dict(header.metadata)} if header.metadata else {}
    position = 0
    for name, tensor in header.tensors.items():
        end = position + tensor.extent.nbytes
        offsets = [position, end]
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
        position = end
    try:
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        what = f"safetensors cannot hold a name in it: {error}"
        raise CheckpointError(what, fix="name OUT.pt instead") from None
    # JSON for the same name: see `digests`
    text = text.replace(b'\\"digests\\"', MARK)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

"""The CRC-32 of a safetensors file's header and tensors, as receipts hold them.

A receipt travels on when another program trains the tensors and writes them with the old metadata.
The key of the digests is therefore written with a JSON escape, which readers undo and writers do
not repeat: without the escape the digests are those of an earlier file.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace

from modswap.core.errors import CheckpointError
from modswap.core.kept.receipt import read_receipt, with_digests
from modswap.io.formats.safetensors.header import (
    MARK,
    RECEIPT,
    Header,
    StoredTensor,
    encoded,
    sound_header,
)
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.checksums import NOTHING, Checksums, Difference, with_checksums
from modswap.io.recognise.json_text import parse_json
from modswap.io.recognise.look import Look

_DIGITS = 8  # of a CRC-32
_DIGEST = re.compile(rf"(?:[0-9a-f]{{{_DIGITS}}})+")
STALE = "another program wrote it after modswap: its receipt has the digests of an earlier file"


def sealed(header: Header) -> Header:
    """Return a header whose receipt, if there is one, holds the digests of the file."""
    text = header.metadata.get(RECEIPT)
    if not text:
        return header
    full = Header(summed(header.tensors), header.metadata)
    receipt = with_digests(text, {"": digest(full)})
    return Header(full.tensors, {**header.metadata, RECEIPT: receipt})


def summed(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return tensors with their CRC-32, computed where they have none."""
    extents = with_checksums([tensor.extent for tensor in tensors.values()])
    return {
        name: replace(tensor, extent=extent)
        for (name, tensor), extent in zip(tensors.items(), extents, strict=True)
    }


def digest(header: Header) -> str:
    """Return the digests of a file: of its header, then of every tensor by name."""
    sums = (header.tensors[name].extent.crc or 0 for name in sorted(header.tensors))
    return "".join(f"{crc:0{_DIGITS}x}" for crc in (_header_sum(header), *sums))


def _header_sum(header: Header) -> int:
    """Return the CRC-32 of a header without the digests in it; spaces do not count."""
    others = {name: text for name, text in header.metadata.items() if name != RECEIPT}
    crc = zlib.crc32(encoded(Header(header.tensors, others)))
    text = header.metadata.get(RECEIPT) or "{}"
    receipt = parse_json(text.encode("utf-8", "surrogatepass"), "the receipt")
    receipt.pop("digests", None)
    return zlib.crc32(json.dumps(receipt).encode(), crc)


def file_checksums(look: Look) -> Checksums:
    """Return the checksums of a file's tensors that its own receipt holds.

    Raises:
        CheckpointError: If its header or its receipt is damaged.
    """
    header = sound_header(look)
    text = header.metadata.get(RECEIPT)
    recorded = read_receipt(text, str(look.file)).digests.get("") if text else None
    return tensor_checksums(look, header, recorded, "" if _is_marked(look) else STALE)


def _is_marked(look: Look) -> bool:
    """Return whether modswap itself wrote a header, and no other program after it."""
    length = int.from_bytes(look.head[:8], "little")
    with look.file.open("rb") as stream:
        stream.seek(8)
        return MARK in stream.read(length)


def tensor_checksums(look: Look, header: Header, recorded: str | None, stale: str) -> Checksums:
    """Return the checksums of a file's tensors from the recorded digests, if there are any.

    Raises:
        CheckpointError: If the digests are malformed.
    """
    if recorded is None:
        return Checksums((), len(header.tensors), notes=(NOTHING,))
    if not _DIGEST.fullmatch(recorded):
        what = f"the receipt inside is damaged at 'digests': {recorded!r:.80} is no list of CRC-32"
        raise look.error(what, "write the file again with `modswap replace`")
    head, *sums = (
        int(recorded[place : place + _DIGITS], 16) for place in range(0, len(recorded), _DIGITS)
    )
    try:
        found = _header_sum(header)
    except CheckpointError as error:
        raise look.error(error.what) from None
    fits = len(sums) == len(header.tensors)
    own = ByteRange(0, look.file, crc=head, name=look.file.name, kind="header")
    changed = (head != found and not stale) or not fits
    differing = (Difference(own, found),) if changed else ()
    if not fits:
        return Checksums((), len(header.tensors), differing, stale)
    pairs = zip(sorted(header.tensors), sums, strict=True)
    ranges = tuple(replace(header.tensors[name].extent, crc=crc) for name, crc in pairs)
    return Checksums(ranges, 0, differing, stale)


def with_known(header: Header, known: Checksums) -> Header:
    """Return a header whose tensors have their known CRC-32; none is known if all are stale."""
    if known.stale or not known.ranges:
        return header
    sums = {held.name: held.crc for held in known.ranges}
    tensors = {
        name: replace(tensor, extent=replace(tensor.extent, crc=sums.get(name)))
        for name, tensor in header.tensors.items()
    }
    return Header(tensors, header.metadata)

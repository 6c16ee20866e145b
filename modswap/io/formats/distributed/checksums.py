"""The checksums of a folder of `torch.distributed.checkpoint`: those of the zips in its files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from modswap.io.formats.distributed.metadata import read_distributed
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.checksums import Checksums
from modswap.io.raw.torch_zip_layout import read_inner_archive
from modswap.io.recognise.look import Look


def distributed_checksums(look: Look) -> Checksums:
    """Return the checksums of every part of every tensor and object.

    Raises:
        CheckpointError: If the folder's metadata are damaged.
        UnsafeError: If they name classes that do not belong in such metadata.
    """
    source = read_distributed(look.file)
    places = {
        (chunk.file, chunk.start, chunk.nbytes): item.name
        for item in source.items.values()
        for chunk in item.chunks
    }
    ranges: list[ByteRange] = []
    unknown = 0
    ends: dict[str, int] = {}
    for file, start, nbytes in sorted(places):
        # the records of one zip could be listed once for every part that shares bytes with it
        apart = start >= ends.get(file, 0)
        name = places[file, start, nbytes]
        found = list(_records(source.folder / file, start, nbytes, name)) if apart else []
        ends[file] = max(ends.get(file, 0), start + nbytes)
        ranges += found
        unknown += not found
    return Checksums(tuple(ranges), unknown)


def _records(file: Path, start: int, nbytes: int, name: str) -> Iterator[ByteRange]:
    """Yield the records of one part that have a checksum, under the name of the tensor."""
    try:
        records = read_inner_archive(file, start, nbytes).records
    except ValueError:
        return
    for record, held in records.items():
        if held.nbytes and held.crc is not None:
            yield replace(held, name=f"{name}: {record}", kind="part")

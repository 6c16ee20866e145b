"""Compare the bytes of a checkpoint with the CRC-32 of each of its records or tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.crc32 import crc32s
from modswap.io.raw.torch_zip_layout import read_archive, read_stored
from modswap.io.raw.watching import damaged
from modswap.io.recognise.look import Look

UNKNOWN = "it was written without checksums: a damaged byte in its weights would not be noticed"
NOTHING = "no checksum to compare with: a damaged byte in its weights would not be noticed"


@dataclass(frozen=True, slots=True)
class Difference:
    """Bytes whose CRC-32 is not the recorded one."""

    extent: ByteRange  # with the recorded one
    found: int


@dataclass(frozen=True, slots=True)
class Checksums:
    """The checksums that are known of a checkpoint.

    Args:
        ranges: The bytes that have one, with it.
        unknown: How many records or tensors have none.
        differences: Differences that were found without reading the ranges.
        stale: Why the checksums are those of another file, which this one was written over; empty
            where they are its own.
        names: Return the names of the tensors in a record, by the record's name.
        notes: Anything else worth knowing, a sentence each.
    """

    ranges: tuple[ByteRange, ...]
    unknown: int = 0
    differences: tuple[Difference, ...] = ()
    stale: str = ""
    names: Callable[[], Mapping[str, str]] = field(default=dict, compare=False)
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything is known."""
        return bool(self.ranges or self.differences)


NONE = Checksums(())


def differences(
    known: Checksums, advance: Callable[[int], None] = lambda _: None
) -> list[Difference]:
    """Read all bytes with checksums; return the differences, those of the headers first.

    Raises:
        CheckpointError: If a file is cut short, or its entries overlap.
    """
    _refuse_overlap(known.ranges)
    sums = zip(known.ranges, crc32s(known.ranges, advance), strict=True)
    return [*known.differences, *(Difference(held, crc) for held, crc in sums if crc != held.crc)]


def _refuse_overlap(ranges: Sequence[ByteRange]) -> None:
    """Refuse ranges that share bytes, which could take any time to read."""
    order = sorted((str(one.file), one.start, one.nbytes, one.name) for one in ranges if one.nbytes)
    for (file, start, nbytes, _), (other, place, _, name) in pairwise(order):
        if file == other and place < start + nbytes:
            what = f"its entry {name!r:.80} overlaps another"
            raise CheckpointError(what, file, "do not use it: it was tampered with")


def without_checksums(look: Look) -> bool:
    """Return whether a torch zip was written without checksums."""
    records = read_archive(look.file).records.items()
    weights = [held for name, held in records if name.startswith("data/") and held.nbytes]
    return bool(weights) and all(held.crc is None for held in weights)


def zip_checksums(look: Look) -> Checksums:
    """Return the checksums of every record of a torch zip, or of an archive of torch.export.

    Raises:
        CheckpointError: If its records are compressed.
    """
    records = [held for held in read_stored(look).values() if held.nbytes]
    empty = [held for held in records if not held.crc]
    if len(empty) < 2:  # a single one may be the CRC-32 of its bytes
        return Checksums(tuple(records))
    known = tuple(held for held in records if held.crc)
    return Checksums(known, len(empty), notes=(UNKNOWN,))


def compare_checksums(look: Look) -> None:
    """Compare every record of a torch zip with its checksum, where it has one.

    Raises:
        CheckpointError: If a record is damaged.
    """
    refuse_difference(differences(zip_checksums(look)))


def refuse_difference(found: Sequence[Difference]) -> None:
    """Raise the error for the first difference, if there is any."""
    if found:
        raise damaged(found[0].extent, found[0].found)


def with_checksum(held: ByteRange) -> ByteRange:
    """Return a range of a file with its checksum, computed from the bytes where it has none."""
    if held.file is None or held.crc is not None:
        return held
    return replace(held, crc=crc32s([held])[0])


def with_checksums(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """Return ranges with their checksums, computed from the bytes where they have none."""
    missing = [held for held in ranges if held.crc is None]
    sums = iter(crc32s(missing))
    return [replace(held, crc=next(sums)) if held.crc is None else held for held in ranges]

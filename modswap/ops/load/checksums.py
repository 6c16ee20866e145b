"""Compare a checkpoint's bytes with its checksums."""

from modswap.core.asked.job import Subject
from modswap.io.formats.choice import recognised
from modswap.io.raw.checksums import (
    NOTHING,
    UNKNOWN,
    compare_checksums,
    differences,
    refuse_difference,
    without_checksums,
)
from modswap.io.recognise.look import look_at

NOT_COMPARED = "its checksums were not compared (--no-checksum)"


def intact(subject: Subject) -> tuple[str, ...]:
    """Compare a zip's bytes with its checksums; return the notes on them.

    Digests in a receipt are not compared, since this would read all weights.

    Raises:
        CheckpointError: If it is damaged.
    """
    look = look_at(subject.file)
    if not subject.policy.checksum:
        return (NOT_COMPARED,)
    if not recognised(look).checksums:
        return ()
    compare_checksums(look)
    return (UNKNOWN,) if without_checksums(look) else ()


def compared(subject: Subject) -> tuple[str, ...]:
    """Compare a file's bytes with its checksums or the digests in its receipt; return notes.

    Raises:
        CheckpointError: If it is damaged.
    """
    look = look_at(subject.file)
    row = recognised(look)
    if subject.policy.checksum and row.known is not None:
        known = row.known(look)
        if not known.stale:
            refuse_difference(differences(known))
    return checksum_notes(subject)


def checksum_notes(subject: Subject) -> tuple[str, ...]:
    """Return the notes on a file's checksums."""
    if not subject.policy.checksum:
        return (NOT_COMPARED,)
    look = look_at(subject.file)
    row = recognised(look)
    if row.always_summed:
        return ()
    if row.known is None:
        return (NOTHING,)
    known = row.known(look)
    stale = (f"no checksum was compared: {known.stale}",) if known.stale else ()
    return (*known.notes, *stale)

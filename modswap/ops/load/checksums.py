"""Compare a checkpoint's bytes with its checksums."""

from modswap.core.asked.job import Subject
from modswap.io.formats.choice import recognised
from modswap.io.raw.checksums import UNKNOWN, compare_checksums, without_checksums
from modswap.io.recognise.look import look_at


def intact(subject: Subject) -> tuple[str, ...]:
    """Compare a file's bytes with its checksums, where it has any; return the notes on them.

    Raises:
        CheckpointError: If it is damaged.
    """
    look = look_at(subject.file)
    if subject.policy.checksum and recognised(look).checksums:
        compare_checksums(look)
    return checksum_notes(subject)


def checksum_notes(subject: Subject) -> tuple[str, ...]:
    """Return the notes on a file's checksums."""
    if not subject.policy.checksum:
        return ("its checksums were not compared (--no-checksum)",)
    look = look_at(subject.file)
    return (UNKNOWN,) if recognised(look).checksums and without_checksums(look) else ()

"""Find the row of a format: by a file's content, by a name, by an ending, or for a target."""

from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.io import formats
from modswap.io.formats.format import Format
from modswap.io.recognise.look import Look, foreign


def recognised(look: Look) -> Format:
    """Return the row of a file, by the file's content; refuse a file of no known format."""
    for row in formats.FORMATS:
        if row.recognise(look):
            return row
    raise foreign(look)


def format_named(name: str) -> Format:
    """Return the row with this name."""
    return next(row for row in formats.FORMATS if row.name == name)


def has_known_ending(file: Path) -> bool:
    """Return whether a file's ending asks for a format."""
    return file.suffix.lower() in _endings()


def by_ending(file: Path) -> Format:
    """Return the row that a file's ending asks for; the first one where it has no ending.

    Raises:
        CheckpointError: If no format has this ending.
    """
    if not file.suffix:
        return formats.FORMATS[0]
    known = _endings()
    row = known.get(file.suffix.lower())
    if row is None:
        what = f"no format has the ending {file.suffix!r}"
        raise CheckpointError(what, str(file), f"use one of {', '.join(known)}")
    return row


def target_format(source: str, out: Path | None) -> Format:
    """Return the format to write: that of the input, unless the ending of `out` asks for another.

    For a dry run `out` is None.

    Raises:
        CheckpointError: If no format has the ending of `out`.
    """
    own = format_named(source)
    if out is None or (own.folder and not has_known_ending(out)):
        return own
    return by_ending(out) if out.suffix else format_named(own.writes_as or own.name)


def _endings() -> dict[str, Format]:
    return {ending: row for row in formats.FORMATS for ending in row.endings}

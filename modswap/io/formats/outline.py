"""Return the module tree, the sites or the contents of a checkpoint read as data, without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modswap.core.seen.tree import Tree
from modswap.io import formats
from modswap.io.formats.choice import recognised
from modswap.io.formats.contents import Contents
from modswap.io.formats.survey import Survey
from modswap.io.pickled.data import CostlyError, UnreadableError
from modswap.io.pickled.outline import costly
from modswap.io.raw.memory import enough_memory
from modswap.io.recognise.look import Look, foreign, look_at

T = TypeVar("T")


def outline(file: Path) -> Tree | None:
    """Return the module tree of a file; None if only its format's reader knows it.

    Raises:
        CheckpointError: If there is no such file, or it is damaged.
    """
    look = look_at(file)
    row = next((row for row in formats.FORMATS if row.recognise(look)), None)
    with enough_memory(file):
        return row.outline(look) if row is not None and row.outline is not None else None


def survey(file: Path) -> Survey:
    """Return the places, sites and sizes of a file; nothing of it is built.

    Raises:
        CheckpointError: If it is damaged, or of a format that cannot be read as data.
    """
    look = look_at(file)
    row = recognised(look)
    if row.survey is None or not row.code_free:
        raise foreign(look)
    return _as_data(row.survey, look)


def contents(file: Path) -> Contents:
    """Return everything in a file, its tensors by the places of their bytes; nothing is built.

    Raises:
        CheckpointError: If it is damaged, or of a format that cannot be read as data.
        UnsafeError: If it names what does not belong in a file of its format.
    """
    look = look_at(file)
    row = recognised(look)
    if row.contents is None:
        raise foreign(look)
    return _as_data(row.contents, look)


def _as_data(reader: Callable[[Look], T], look: Look) -> T:
    """Return what a reader of data finds in a file; what stops it becomes an error of the file."""
    try:
        with enough_memory(look.file):
            return reader(look)
    except CostlyError as error:
        raise costly(look, error) from None
    except (UnreadableError, RecursionError) as error:
        what = f"its pickle cannot be read as data: {error}"
        raise look.error(what, "save it again with a current torch") from None

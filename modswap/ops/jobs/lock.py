"""Write checked recipes into a lock file, and compare later checks with it; loads no torch."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from modswap.core.errors import CheckpointError, ModswapError, UsageError, together
from modswap.core.kept.lock import Entry, drifts, entry_of
from modswap.core.kept.outcome import Outcome
from modswap.core.version import __version__
from modswap.io.lock import digest_of_recipe, fingerprint, key_of, read_lock, write_lock


def lock(outcomes: Sequence[Outcome], file: Path) -> bool:
    """Write the checked recipes into a lock file if all hold; return whether they do.

    Raises:
        UsageError: If another kind of file is there, or a recipe came from standard input.
        CheckpointError: If it cannot be written.
    """
    if not all(outcome.ok for outcome in outcomes):
        return False
    write_lock(file, {key_of(one.recipe, file): _entry(one, file) for one in outcomes})
    return True


def locked_entries(recipes: Sequence[str], file: Path) -> tuple[Entry, ...]:
    """Return the entries of recipes in a lock file, in their order.

    Raises:
        UsageError: If there is no lock file, or no entry for one of the recipes.
    """
    known = read_lock(file).recipes
    keys = {recipe: key_of(recipe, file) for recipe in recipes}
    fix = "write it: `modswap check {} --lock`"
    errors = [
        UsageError(f"{file} has no entry for it", recipe, fix.format(recipe))
        for recipe, key in keys.items()
        if key not in known
    ]
    if errors:
        raise together(errors)
    return tuple(known[keys[recipe]] for recipe in recipes)


def compared(outcome: Outcome, entry: Entry, file: Path) -> Outcome:
    """Return an outcome with an error for each fact that differs from its entry in a file."""
    if not outcome.checkpoint:
        return outcome  # its recipe could not be read
    try:
        found: tuple[ModswapError, ...] = drifts(entry, _entry(outcome, file), outcome.recipe)
    except CheckpointError as error:
        found = (error,) if outcome.ok else ()
    if outcome.error is not None:
        found = (outcome.error, *found)
    return replace(outcome, error=together(found)) if found else outcome


def _entry(outcome: Outcome, file: Path) -> Entry:
    checkpoint = Path(outcome.checkpoint)
    major, minor, _ = platform.python_version_tuple()
    versions = {"modswap": __version__, "torch": version("torch"), "python": f"{major}.{minor}"}
    return entry_of(
        outcome,
        digest_of_recipe(outcome.recipe, outcome.recipe_sha256),
        fingerprint(checkpoint, key_of(checkpoint, file), checked=outcome.stamps),
        versions,
    )

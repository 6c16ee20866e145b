"""`--lock` and `--locked` of `modswap check`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.cli.session import note
from modswap.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modswap.core.kept.lock import Entry
    from modswap.core.kept.outcome import Outcome

LOCK = Path("modswap.lock")
Lock = Annotated[
    bool,
    typer.Option("--lock", help="Write the checked recipes and their choices into a lock file."),
]
Locked = Annotated[
    bool, typer.Option("--locked", help="Fail if anything differs from the lock file.")
]
LockFile = Annotated[
    Path | None,
    typer.Option(
        "--lock-file", metavar="FILE", help=f"The lock file, instead of {LOCK}.", show_default=False
    ),
]


@dataclass(frozen=True, slots=True)
class Locking:
    """The lock options of a check."""

    file: Path
    write: bool  # whether the check writes it
    hold: bool  # whether the check is compared with it

    def entries(self, recipes: "Sequence[str]") -> "tuple[Entry, ...]":
        """Return the entries of recipes in the lock file; none if they are not compared with it.

        A `UsageError` says that there is no lock file, or no entry for one of the recipes.
        """
        from modswap.ops.jobs.lock import locked_entries

        return locked_entries(recipes, self.file) if self.hold else ()

    def settle(
        self, outcomes: "Sequence[Outcome]", entries: "Sequence[Entry]", *, quiet: bool
    ) -> "list[Outcome]":
        """Write the lock file, or return the outcomes with an error for each difference from it.

        The entries are in the order of the outcomes; `quiet` prints no line about a written lock.
        """
        from modswap.ops.jobs.lock import compared, lock

        if self.hold:
            pairs = zip(outcomes, entries, strict=True)
            return [compared(outcome, entry, self.file) for outcome, entry in pairs]
        if self.write:
            done = lock(outcomes, self.file)
            if done and not quiet:
                note(f"locked in {self.file}")
            elif not done:
                note(f"{self.file} was not written: not every recipe holds")
        return list(outcomes)


def locking_of(file: Path | None, *, write: bool, hold: bool) -> Locking:
    """Return the lock options as one record; a `UsageError` if they exclude each other."""
    if write and hold:
        fix = "write the lock with --lock, compare a later check with it by --locked"
        raise UsageError("--lock and --locked exclude each other", "check", fix)
    if file is not None and not (write or hold):
        fix = "add --lock to write it, or --locked to compare with it"
        raise UsageError("it has no effect alone", "--lock-file", fix)
    return Locking(file or LOCK, write, hold)

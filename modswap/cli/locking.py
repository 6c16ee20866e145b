"""`--lock` and `--locked` of `modswap check`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modswap.core.kept.lock import Entry
    from modswap.core.kept.outcome import Outcome

LOCK = Path("modswap.lock")
Lock = Annotated[
    bool, typer.Option("--lock", help="Write what was checked and decided into a lock file.")
]
Locked = Annotated[
    bool, typer.Option("--locked", help="Fail where anything is not as the lock file says.")
]
LockFile = Annotated[
    Path | None,
    typer.Option(
        "--lock-file", metavar="FILE", help=f"The lock file, instead of {LOCK}.", show_default=False
    ),
]


@dataclass(frozen=True, slots=True)
class Locking:
    """What a check has to do with a lock file.

    Args:
        file: The lock file.
        write: Whether it is written.
        hold: Whether the check is held to it.
    """

    file: Path
    write: bool
    hold: bool

    def entries(self, recipes: "Sequence[str]") -> "tuple[Entry, ...]":
        """Return what recipes are held to, before anything is checked; nothing if to nothing.

        Raises:
            UsageError: If there is no lock file, or it has no entry for one of them.
        """
        from modswap.ops.jobs.lock import locked_entries

        return locked_entries(recipes, self.file) if self.hold else ()

    def settle(
        self, outcomes: "Sequence[Outcome]", entries: "Sequence[Entry]", *, quiet: bool
    ) -> "list[Outcome]":
        """Return outcomes as the lock file judges them; write it if it is to be written.

        Args:
            outcomes: What the checks found.
            entries: What they are held to.
            quiet: Whether nothing is told.
        """
        from modswap.ops.jobs.lock import held, lock

        if self.hold:
            pairs = zip(outcomes, entries, strict=True)
            return [held(outcome, entry, self.file) for outcome, entry in pairs]
        if self.write:
            done = lock(outcomes, self.file)
            if done and not quiet:
                sys.stderr.write(f"locked in {self.file}\n")
            elif not done:
                sys.stderr.write(f"{self.file} is as it was: not every recipe holds\n")
        return list(outcomes)


def locking_of(file: Path | None, *, write: bool, hold: bool) -> Locking:
    """Return what the options ask for.

    Raises:
        UsageError: If they do not go together.
    """
    if write and hold:
        fix = "write the lock with --lock, hold a later check to it with --locked"
        raise UsageError("--lock and --locked exclude each other", "check", fix)
    if file is not None and not (write or hold):
        fix = "add --lock to write it, or --locked to be held to it"
        raise UsageError("it does nothing alone", "--lock-file", fix)
    return Locking(file or LOCK, write, hold)

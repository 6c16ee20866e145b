"""The table of replacement modules: our own rows, then those of other packages."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from modswap.core.errors import RecipeError
from modswap.nn.catalogue.names import advice, rows_named
from modswap.nn.catalogue.row import Replacement

GROUP = "modswap.modules"


class Catalogue(Mapping[str, Replacement]):
    """Rows by name. A row of another package is imported at its first use.

    Other packages name their rows in the entry-point group `modswap.modules`: the entry's name is
    the row's, its object a `Replacement`. Our own rows win over other packages' of the same name.
    """

    def __init__(self, rows: Sequence[Replacement]) -> None:
        self._own = {row.name: row for row in rows}

    @cached_property
    def _others(self) -> dict[str, EntryPoint]:
        found = {entry.name: entry for entry in entry_points(group=GROUP)}
        return {name: found[name] for name in sorted(found) if name not in self._own}

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._others

    def __len__(self) -> int:
        return len(self._own) + len(self._others)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._others

    def reference(self, name: str) -> str:
        """Return the dotted path of another package's row without an import; empty for ours."""
        if name in self._own or name not in self._others:
            return ""
        return self._others[name].value.replace(":", ".")

    def spelled(self, name: str) -> str | None:
        """Return the name of the row that has this name or spelling; None if none or several do.

        Upper and lower case, hyphens and underscores make no difference.
        """
        if name in self:
            return name
        found = rows_named(name, self._spellings)
        return found[0] if len(found) == 1 else None

    def advice(self, name: str) -> str:
        """Return what to write in place of a name that `spelled` does not know."""
        return advice(name, self._spellings, "run `modswap catalogue` to list them")

    @property
    def _spellings(self) -> dict[str, tuple[str, ...]]:
        """Return the other names of every row; a row of another package has none."""
        own: dict[str, tuple[str, ...]] = {row.name: row.spellings for row in self._own.values()}
        return own | dict.fromkeys(self._others, ())

    def __getitem__(self, name: str) -> Replacement:
        """Return a row.

        Raises:
            RecipeError: If another package's row cannot be imported, or is no `Replacement`.
        """
        if name in self._own:
            return self._own[name]
        return _imported(self._others[name])


def _imported(entry: EntryPoint) -> Replacement:
    package = entry.dist.name if entry.dist else "a package"
    where = f"{package}: {entry.name} = {entry.value}"
    try:
        row = entry.load()
    except Exception as error:
        # the code of another package may raise anything
        what = f"the row {entry.name!r} cannot be imported: {type(error).__name__}: {error}"
        raise RecipeError(what, where, f"mend or uninstall {package}") from error
    if not isinstance(row, Replacement) or row.name != entry.name:
        shown = f"a row named {row.name!r}" if isinstance(row, Replacement) else f"{row!r:.60}"
        what = f"the entry point {entry.name!r} gives {shown}, expected the row of that name"
        raise RecipeError(what, where, "name a modswap.nn.Replacement of the entry's own name")
    return row

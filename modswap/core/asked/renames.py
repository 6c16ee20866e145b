"""Renamings that a user gives for the tensors of a file: beginnings of names, or parts of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rename:
    """A beginning of names in the file, and the beginning that these names have in the model.

    An `old` without a dot at its end covers whole segments of a name. An `old` that begins with a
    dot is looked for inside names.
    """

    old: str
    new: str

    def applied(self, name: str) -> str:
        """Return a name of the file as the model has it."""
        if self.old.startswith("."):
            return self._inside(name)
        if not name.startswith(self.old):
            return name
        rest = name[len(self.old) :]
        if self.old and not self.old.endswith(".") and rest[:1] not in {"", "."}:
            return name
        return f"{self.new}{rest}" if self.new else rest.removeprefix(".")

    def _inside(self, name: str) -> str:
        whole = f"{name}."
        place = whole.find(self.old if self.old.endswith(".") else f"{self.old}.")
        if place < 0:
            return name
        return f"{whole[:place]}{self.new}{whole[place + len(self.old) :]}".removesuffix(".")

    @property
    def backwards(self) -> "Rename":
        """Return the renaming from the model's names to the file's."""
        return Rename(self.new, self.old)

    def option(self, *, later: bool = False) -> str:
        """Return the option of the command line that asks for it, `later` than other renamings."""
        if self.old and not self.new and not later:
            return f"--strip-prefix {_quoted(self.old)}"
        return f"--rename {_quoted(f'{self.old}={self.new}')}"


def _quoted(text: str) -> str:
    plain = all(c.isalnum() or c in "._" for c in text)
    return text if plain else f"'{text}'"


def renamed(name: str, renames: Iterable[Rename]) -> str:
    """Return a name of the file as the model has it, each renaming applied in turn."""
    for rename in renames:
        name = rename.applied(name)
    return name


def named_back(name: str, renames: Sequence[Rename]) -> str:
    """Return a name of the model as the file would have it; itself where that is ambiguous."""
    old = name
    for rename in reversed(renames):
        old = rename.backwards.applied(old)
    return old if renamed(old, renames) == name else name


def parsed_rename(text: str) -> Rename | None:
    """Return the renaming in a text `OLD=NEW`, or None if it is none."""
    old, equals, new = text.partition("=")
    return Rename(old, new) if equals and old != new else None


def stripped(prefix: str) -> Rename:
    """Return the renaming that takes a prefix away."""
    return Rename(prefix if prefix.endswith(".") else f"{prefix}.", "")

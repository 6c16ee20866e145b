"""The tensors of a file by the names that they have in the model, and back."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modswap.core.asked.renames import Rename, named_back, renamed
from modswap.core.errors import CheckpointError
from modswap.io.formats.format import FileNames
from modswap.ops.load.library_names import Conversion, LibraryNames

MAX_PLACES = 4  # names in the file that a report shows for a module
_OTHER_FORMAT = "name OUT.pt or OUT.safetensors, which get the names of the model"


@dataclass(frozen=True, slots=True)
class Naming:
    """The way from a file's names to the model's: the user's renamings, then the library's."""

    renames: tuple[Rename, ...] = ()
    library: LibraryNames | None = None

    def parts(
        self, names: Iterable[str], wanted: Mapping[str, Any]
    ) -> tuple[list[Conversion], dict[str, str]]:
        """Return the parts of a model's tensors, `wanted`, that a file holds.

        Names that are none of them come second, with the names that they would have.
        """
        old: dict[str, str] = {}
        doubles: dict[str, str] = {}
        for name in names:
            new = renamed(name, self.renames)
            if old.setdefault(new, name) != name:
                doubles[name] = new  # two names of the file are one in the model
        if self.library is None:
            found = [Conversion(new, (new,)) for new in old if new in wanted]
            left = {new: new for new in old if new not in wanted}
        else:
            found, left = self.library.parts(old, wanted)
        found = [replace(one, sources=tuple(map(old.__getitem__, one.sources))) for one in found]
        return found, doubles | {old[name]: new for name, new in left.items()}

    def of_file(self, name: str) -> tuple[str, ...]:
        """Return the names that a file may have for a tensor of the model, the likeliest first."""
        own = self.library.candidate(name) if self.library is not None else name
        return tuple(dict.fromkeys(named_back(one, self.renames) for one in (own, name)))


@dataclass(frozen=True, slots=True)
class Stored:
    """The tensors of a file as the model names them.

    Args:
        raw: The tensors by their names in the file.
        weights: The tensors of the model that the file holds, by their names in the model.
        sources: The names in the file that each of them comes from.
        carried: The names in the file that are no tensor of the model, each with the name
            that it would have there.
        naming: How the names of the file were understood.
        ties: Tensors of the model that the file leaves out, each with another name of it in the
            model, which the file holds.
    """

    raw: Mapping[str, Any]
    weights: Mapping[str, Any]
    sources: Mapping[str, tuple[str, ...]]
    carried: dict[str, str]
    naming: Naming = Naming()
    ties: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Return whether the file holds the tensors of the model, under their names there."""
        same = all(names == (name,) for name, names in self.sources.items())
        return same and not self.carried and not self.ties

    @property
    def converted(self) -> bool:
        """Return whether the model's library gives tensors of the file another form or name."""
        return self.naming.library is not None

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        """Return the beginnings of modules' names in the file, where they are not their paths.

        A module whose tensors have names of several kinds there has those names, if they are few.
        """
        found: dict[str, dict[str, None]] = {}
        for name, sources in self.sources.items():
            segments = name.split(".")
            for end in range(1, len(segments)):
                path = ".".join(segments[:end])
                places = (_place(source, segments[end:]) for source in sources)
                found.setdefault(path, {}).update(dict.fromkeys(places))
        others = {path: tuple(places) for path, places in found.items() if set(places) != {path}}
        return {path: places for path, places in others.items() if len(places) <= MAX_PLACES}

    def file_names(self, paths: Iterable[str], wanted: Mapping[str, Any], where: str) -> FileNames:
        """Return the names of a swap in the file: of tensors that go, and of the new ones.

        `paths` are those of the new modules, and `wanted` the tensors of the swapped model.

        Raises:
            CheckpointError: If the names of the file leave no room for the new ones.
        """
        gone = tuple(f"{path}." for path in paths)
        targets = self._targets()
        removed = frozenset(
            source for source, names in targets.items() if all(n.startswith(gone) for n in names)
        )
        taken = {source for source in targets if source not in removed}
        heirs = self._heirs(gone, removed, taken)
        new: dict[str, str] = {}
        for name in wanted:
            if name.startswith(gone):
                new[name] = self._free(name, {*heirs} | taken)
        found = FileNames(removed, new, heirs)
        self._refuse_other_meaning(found, taken, wanted, where)
        return found

    def _targets(self) -> dict[str, list[str]]:
        """Return the names in the model by those in the file."""
        targets = {name: [new] for name, new in self.carried.items()}
        for name, sources in self.sources.items():
            for source in sources:
                targets.setdefault(source, []).append(name)
        return targets

    def _heirs(
        self, gone: tuple[str, ...], removed: Collection[str], taken: Collection[str]
    ) -> dict[str, str]:
        """Return the names under which removed tensors stay that modules outside the swap share."""
        heirs: dict[str, str] = {}
        for alias, owner in self.ties.items():
            old = self.sources[owner]
            goes = all(source in removed for source in old) and not alias.startswith(gone)
            if goes and old[0] not in heirs.values():
                heirs[self._free(alias, taken)] = old[0]
        return heirs

    def _free(self, name: str, taken: Collection[str]) -> str:
        """Return the first name for a tensor that the file does not have already."""
        return next((one for one in self.naming.of_file(name) if one not in taken), name)

    def _refuse_other_meaning(
        self, names: FileNames, kept: Collection[str], wanted: Mapping[str, Any], where: str
    ) -> None:
        """Refuse new names if the written file would then be read in another way."""
        written = [*kept, *names.heirs, *names.new.values()]
        conversions, _ = self.naming.parts(written, wanted)
        read = {one.target: one.sources for one in conversions}
        expected = self._kept_alone(kept, read) | {n: (new,) for n, new in names.new.items()}
        wrong = [name for name, sources in expected.items() if read.get(name) != sources]
        if wrong or len(set(written)) < len(written):
            what = f"its names leave no room for {''.join(wrong[:1])!r:.80} of the new modules"
            raise CheckpointError(what, where, _OTHER_FORMAT)

    def _kept_alone(
        self, kept: Collection[str], read: Mapping[str, Any]
    ) -> dict[str, tuple[str, ...]]:
        """Return the sources of the tensors that are kept and are all of their source."""
        single = {name: old for name, old in self.sources.items() if len(old) == 1}
        return {name: old for name, old in single.items() if name in read and old[0] in kept}


def _place(source: str, inside: list[str]) -> str:
    """Return a name in the file without the end that it shares with the model's name."""
    end = f".{'.'.join(inside)}"
    return source.removesuffix(end)

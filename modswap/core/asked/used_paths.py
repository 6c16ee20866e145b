"""The files that a run reads, from the request and the recipe, so that none of them is written."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modswap.core.asked.import_name import split_arguments

if TYPE_CHECKING:
    from modswap.core.asked.job import Subject
    from modswap.core.asked.recipe import Recipe

INPUT, RECIPE, DIGESTS, OUT = "the input", "the recipe", "the list of SHA-256", "OUT"
ORIGINAL, DATA, RESUME = "the original", "the data", "the file to go on from"


class UsedPath(NamedTuple):
    """A path that a run reads or writes, and its part in the run, in words."""

    name: str  # as messages say it: `the input`, `the report`
    file: Path
    kind: str = ""  # of a text that is written (`own_texts`)

    @property
    def comes_first(self) -> bool:
        """Return whether a run cannot begin without it."""
        return self.name in {INPUT, ORIGINAL, DATA}


def paths_read(subject: "Subject", recipe: "Recipe | None" = None) -> tuple[UsedPath, ...]:
    """Return the input, the recipe, and the files of code that the request and the recipe name."""
    found = [UsedPath(INPUT, subject.file)]
    if subject.factory is not None:
        found += code_files(subject.factory, Path.cwd())
    if recipe is not None:
        found += recipe_files(recipe)
    return tuple(found)


def recipe_files(recipe: "Recipe") -> Iterator[UsedPath]:
    """Yield a recipe's own file, and the files of code and the donors that it names."""
    folder = Path(recipe.source.folder)
    if not recipe.source.options:
        yield UsedPath(RECIPE, Path(recipe.source.name))
    if recipe.model is not None:
        yield from code_files(recipe.model.factory, folder)
    for _, rule in recipe.rules:
        yield from code_files(rule.with_, folder)
        if rule.donor is not None:
            yield UsedPath("the donor", folder / rule.donor.file)


def healing_files(data: str, against: Path | None = None, evaluate: str = "") -> Iterator[UsedPath]:
    """Yield the original of a healing, its data, and the files of code that it names."""
    if against is not None:
        yield UsedPath(ORIGINAL, against)
    yield from code_files(evaluate, Path.cwd())
    code = tuple(code_files(data, Path.cwd()))
    yield from code
    if data not in {"", "none"} and not code:
        yield UsedPath(DATA, Path(data))


def resume_file(out: Path) -> Path:
    """Return the place of the file from which a healing that was broken off goes on."""
    return out.with_name(f"{out.name}.resume")


def code_files(reference: str, folder: Path) -> Iterator[UsedPath]:
    """Yield the files in a folder that `file.py:name` or `package.module:name` can mean."""
    module, colon, _ = split_arguments(reference)[0].rpartition(":")
    if not colon:
        return
    name = f"the code of {reference!r}"
    if module.endswith(".py"):
        yield UsedPath(name, folder / module)
        return
    place = folder.joinpath(*module.split("."))
    yield from (UsedPath(name, file) for file in (Path(f"{place}.py"), place / "__init__.py"))


def imported_as(file: Path) -> Iterator[UsedPath]:
    """Yield a file again for each module that was imported from it, by any name."""
    with suppress(OSError, ValueError):
        status = file.stat()
        for name, module in tuple(sys.modules.items()):
            source = getattr(module, "__file__", None)
            if isinstance(source, str) and _is(Path(source), status):
                yield UsedPath(f"the code of {name!r}", Path(source))


def _is(source: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(source.stat(), status)
    except (OSError, ValueError):
        return False

"""Load the model of a file: a whole module, or a factory's model filled with the file's weights."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.errors import NAME_A_FACTORY, CheckpointError, RecipeError, UsageError
from modswap.core.kept.receipt import Receipt, read_receipt
from modswap.io.formats.container import Container
from modswap.io.formats.reading import read
from modswap.ops.load.factory import Factory, call_factory, imported_factory
from modswap.ops.load.fill import fill, stored_in
from modswap.ops.load.hub_folder import CONFIG, pretrained
from modswap.ops.load.library_names import library_names, record_outputs
from modswap.ops.load.sparing import built
from modswap.ops.load.stored import Stored

REBUILT = (
    "`from_pretrained` builds the model of config.json, and so loses the swap: load the written "
    "folder with `modswap.load(FOLDER)`"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with the file that it came from, and the receipt of an earlier swap in it.

    `stored` has the names of the file's tensors in the model.
    """

    model: nn.Module
    container: Container
    receipt: Receipt | None = None
    stored: Stored | None = None  # None where the file holds the whole module


def load(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    restructure: Callable[[Loaded], None] = lambda _: None,
) -> Loaded:
    """Return the model of a file.

    The factory of `recipe` is used where the subject names none. `restructure` gives a model that a
    factory built the structure of the file, in place, before the weights go into it.

    Raises:
        CheckpointError: If the file cannot be read.
        UnsafeError: If it would have to build a class that is not allowed.
        UsageError: If it holds weights and nobody says how to build the model.
        RecipeError: If the factory fails or does not fit the weights.
    """
    container = read(subject.file, subject.policy)
    where = str(subject.file)
    receipt = read_receipt(container.receipt, where) if container.receipt else None
    slot = container.slots[0]
    if slot.kind == "module":
        record_outputs(slot.value)
        return Loaded(slot.value, container, receipt)
    factory = _named_factory(subject, recipe) or _factory_of_folder(subject.file, slot.value)
    of_library = factory.name == CONFIG

    def attempt(building: AbstractContextManager[None]) -> Loaded:
        with building:
            model = call_factory(factory)
        library = library_names(model)  # of the model as the library builds it
        restructure(Loaded(model, container, receipt))
        renames = subject.renames
        stored = stored_in(model, slot.value, renames, library, where, of_library=of_library)
        notes = (*container.notes, *((REBUILT,) if of_library else ()))
        notes = (*notes, *fill(model, stored, factory, where))
        return Loaded(model, replace(container, notes=notes), receipt, stored)

    loaded, notes = built(slot.value, attempt)
    container = loaded.container
    return replace(loaded, container=replace(container, notes=(*container.notes, *notes)))


def _named_factory(subject: Subject, recipe: Recipe | None) -> Factory | None:
    """Return the factory that the command line or the recipe names."""
    if subject.factory is not None:
        return imported_factory(subject.factory, {}, str(Path.cwd()), "--model", UsageError)
    if recipe is None or recipe.model is None:
        return None
    where = recipe.at("model", "factory")
    source, folder = recipe.model, recipe.source.folder
    return imported_factory(source.factory, source.args, folder, where, RecipeError)


def _factory_of_folder(file: Path, weights: Mapping[str, Any]) -> Factory:
    """Return the factory of a folder whose config.json names a library's class; refuse others."""
    build = pretrained(file, weights)
    if build is None:
        raise UsageError(
            "it holds weights without code",
            str(file),
            "say how to build the model: `--model package.module:callable`, "
            "or `model: {factory: …}` in the recipe",
        ).with_retry(*NAME_A_FACTORY)
    return Factory(build, CONFIG, str(file / CONFIG), CheckpointError)

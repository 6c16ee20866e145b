"""From a file to a working model: whole, or built by a factory and filled with weights."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.recipe import ModelSource, Recipe
from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import CheckpointError, ModswapError, RecipeError, UnsafeError, UsageError
from modswap.core.kept.receipt import Receipt, SiteRecord, read_receipt
from modswap.io.formats import read
from modswap.io.formats.container import Container
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import CATALOGUE
from modswap.ops.apply import Placement, apply
from modswap.ops.build.make import import_class, make_module
from modswap.ops.build.take_over import carry_over, host_attributes
from modswap.ops.load.allowed import allowed
from modswap.ops.load.factory import Factory, call_factory, imported_factory
from modswap.ops.load.fill import fill
from modswap.ops.load.hub_folder import CONFIG, pretrained
from modswap.ops.run.describe import one_line
from modswap.ops.swap import apply_recipe

REBUILT = (
    "`from_pretrained` builds the model of config.json, and so loses the swap: load the written "
    "folder with `modswap.load(FOLDER)`"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with the file that it came from.

    Args:
        model: The model, in memory or mapped from the file.
        container: Everything that the file holds.
        receipt: The receipt of an earlier swap, if there is one inside.
    """

    model: nn.Module
    container: Container
    receipt: Receipt | None = None


def load(subject: Subject, recipe: Recipe | None = None) -> Loaded:
    """Return the model of a file.

    Args:
        subject: The file, what it may build, and a factory from the command line.
        recipe: For its `model`, where the command line names none.

    Raises:
        CheckpointError: If the file cannot be read.
        UnsafeError: If it would have to build what is not allowed.
        UsageError: If it holds weights and nobody says how to build the model.
        RecipeError: If the factory fails or does not fit the weights.
    """
    container = read(subject.file, subject.policy)
    where = str(subject.file)
    receipt = read_receipt(container.receipt, where) if container.receipt else None
    slot = container.slots[0]
    if slot.kind == "module":
        return Loaded(slot.value, container, receipt)
    factory = _factory(subject, recipe)
    if factory is None:
        factory = _pretrained(subject.file)
    model = call_factory(factory)
    if receipt is not None and receipt.sites:
        rebuild(model, receipt.sites, slot.value, subject.policy, where)
    elif container.recipe:
        apply_embedded(model, container.recipe, subject.policy, where)
    fill(model, slot.value, factory, where)
    if factory.name == CONFIG:
        container = replace(container, notes=(*container.notes, REBUILT))
    return Loaded(model, container, receipt)


def _pretrained(file: Path) -> Factory:
    """Return the factory of a folder whose config.json names a library's class.

    Raises:
        UsageError: If it does not, and nobody says how to build the model.
    """
    build = pretrained(file)
    if build is None:
        raise UsageError(
            "it holds weights without code",
            str(file),
            "say how to build the model: `--model package.module:callable`, "
            "or `model: {factory: …}` in the recipe",
        )
    return Factory(build, CONFIG, str(file / CONFIG), CheckpointError)


def _factory(subject: Subject, recipe: Recipe | None) -> Factory | None:
    if subject.factory is not None:
        return imported_factory(subject.factory, {}, str(Path.cwd()), "--model", UsageError)
    source: ModelSource | None = recipe.model if recipe else None
    if recipe is None or source is None:
        return None
    where = recipe.at("model", "factory")
    return imported_factory(source.factory, source.args, recipe.source.folder, where, RecipeError)


def rebuild(
    model: nn.Module,
    sites: tuple[SiteRecord, ...],
    weights: Mapping[str, torch.Tensor],
    policy: Policy,
    where: str,
) -> None:
    """Give a fresh model the structure that a receipt records, so that the weights fit it.

    Args:
        model: The model, changed in place.
        sites: What the receipt says.
        weights: What the new modules will be filled with.
        policy: A class outside modswap is imported only if the user allowed it.
        where: The file.

    Raises:
        UnsafeError: If the receipt names classes that are not allowed.
        MatchError: If the model has no such path.
        CheckpointError: If the receipt cannot be carried out.
    """
    classes = _classes([site.module for site in sites], policy, where)
    counts = Counter(path for site in sites for path in site.paths)
    if double := next((path for path, count in counts.items() if count > 1), None):
        raise _unfit(where, f"two of its modules have the path {double!r:.60}")
    room = sum(tensor.numel() for tensor in weights.values())
    placements: list[Placement] = []
    old = dict(model.named_modules(remove_duplicate=False))
    for site in sites:
        module = _recorded(site, classes.get(site.module), room, where)
        room -= _elements(module)
        for path in site.paths[:1]:
            if path in old:  # it may lie in a new module
                carry_over(module, host_attributes(old[path]))
        placements.append((site.paths, module))
    apply(model, placements)
    for paths, module in placements:
        module.train(model.training)
        del paths


def _recorded(site: SiteRecord, cls: type[nn.Module] | None, room: int, where: str) -> nn.Module:
    """Return a module that a receipt tells of, if the file holds as many weights as it has."""
    blueprint = site.blueprint()
    try:
        if cls is None:  # without memory first: a receipt may say any size
            _refuse_more(blueprint, room, where)
        return make_module(blueprint, cls, 0)
    except ModswapError:
        raise
    except Exception as error:  # the arguments are the file's, the constructor anyone's
        what = f"{site.module[:60]!r} cannot be made: {one_line(error)}"
        raise _unfit(where, what) from error


def _refuse_more(blueprint: Blueprint, room: int, where: str) -> None:
    """Refuse a module of the catalogue with more weights than there are."""
    with torch.device("meta"):
        elements = _elements(make_module(blueprint, None, 0))
    if elements > room:
        what = f"{blueprint.module} would have {elements:,} weights, more than the file"
        raise _unfit(where, what)


def _elements(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values() if torch.is_tensor(tensor))


def _unfit(where: str, what: str) -> CheckpointError:
    fix = "write the file again with `modswap replace`"
    return CheckpointError(f"the receipt inside cannot be carried out: {what}", where, fix)


def apply_embedded(model: nn.Module, text: str, policy: Policy, where: str) -> None:
    """Apply the recipe found inside a file that has no receipt.

    Raises:
        UnsafeError: If it names classes that are not allowed.
    """
    recipe = parse_recipe(text, f"{where}:recipe", ".")
    _classes([rule.with_ for rule in recipe.replace], policy, where)
    apply_recipe(model, recipe)


def _classes(names: list[str], policy: Policy, where: str) -> dict[str, type[nn.Module]]:
    """Return the classes outside the catalogue that a file's own records name.

    Rows that other packages have put into the catalogue need to be allowed as well.
    """
    dotted = {name: name.replace(":", ".") for name in sorted(names) if ":" in name}
    rows = {name: CATALOGUE.reference(name) for name in sorted(names) if CATALOGUE.reference(name)}
    refused = [name for name, full in (dotted | rows).items() if not allowed(full, policy)]
    if refused:
        what = f"it was swapped with {', '.join(refused)}, which a file may not import by itself"
        packages = {name: f"{full.rpartition('.')[0]}.*" for name, full in rows.items()}
        options = " ".join(f"--allow {(dotted | packages)[name]}" for name in refused)
        raise UnsafeError(what, where, f"allow it if you trust that code: {options}")
    return {name: import_class(name, folder=".", where=where) for name in dotted}

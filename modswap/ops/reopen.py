"""Open a file again that was swapped: give a fresh model the structure that the file records."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.package_search import class_in_package
from modswap.core.asked.recipe import Recipe
from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import CheckpointError, MatchError, ModswapError, UnsafeError
from modswap.core.kept.receipt import SiteRecord
from modswap.io.pickled.names import runs_code
from modswap.io.recipe.embedded import embedded_recipe
from modswap.nn import CATALOGUE
from modswap.ops.apply import Placement, apply
from modswap.ops.build.make import import_class, make_module
from modswap.ops.build.take_over import carry_over_from
from modswap.ops.load.allowed import allowed, in_full
from modswap.ops.load.closed import closed_off
from modswap.ops.load.model import Loaded, load
from modswap.ops.run.describe import one_line
from modswap.ops.swap import apply_recipe

_TIMES = 16  # strides and paddings are among the numbers, and make no weights


def reopen(subject: Subject, recipe: Recipe | None = None) -> Loaded:
    """Return the model of a file, swapped as the receipt or the recipe inside the file says.

    The factory of `recipe` is used where the subject names none.

    Raises:
        ModswapError: As `load`.
        UnsafeError: If the file's records name classes that are not allowed.
        MatchError: If the model has no module at a path of the receipt.
        CheckpointError: If the receipt cannot be carried out.
    """
    where, policy = str(subject.file), subject.policy

    def restructure(loaded: Loaded) -> None:
        receipt, text = loaded.receipt, loaded.container.recipe
        if receipt is not None and receipt.sites:
            weights = loaded.container.slots[0].value
            _apply_receipt(loaded.model, receipt.sites, weights, policy, where)
        elif text:
            weights = loaded.container.slots[0].value
            _apply_embedded(loaded.model, text, weights, policy, where)

    return load(subject, recipe, restructure=restructure)


def _apply_receipt(
    model: nn.Module,
    sites: Sequence[SiteRecord],
    weights: Mapping[str, torch.Tensor],
    policy: Policy,
    where: str,
) -> None:
    """Put the modules that a receipt records into a model, in place.

    They may not have more weights than the file; a class outside modswap is imported only if the
    user allowed it.
    """
    classes = _classes([site.module for site in sites], policy, where)
    _refuse_double(sites, where)
    room = sum(tensor.numel() for tensor in weights.values())
    placements: list[Placement] = []
    for site in sites:
        with _closed([site.module], policy, where):
            module = _recorded(site, classes.get(site.module), room, where)
        room -= _elements(module)
        placements.append((site.paths, module))
    old = dict(model.named_modules(remove_duplicate=False))
    for paths, module in placements:
        for path in paths[:1]:
            if path in old:  # else the path is inside another new module
                carry_over_from(old[path], module)
    _put_in(model, placements, where)


def _put_in(model: nn.Module, placements: Sequence[Placement], where: str) -> None:
    """Put the modules of a receipt into a model, in its mode."""
    try:
        apply(model, placements)
    except MatchError as error:
        what = f"{error.what}, where the receipt inside has a new one"
        fix = "build the model that was swapped: see `--model`"
        raise MatchError(what, where, fix) from error
    for _, module in placements:
        module.train(model.training)


def _refuse_double(sites: Sequence[SiteRecord], where: str) -> None:
    """Refuse a receipt in which two modules have one path."""
    counts = Counter(path for site in sites for path in site.paths)
    if double := next((path for path, count in counts.items() if count > 1), None):
        raise _unfit(where, f"two of its modules have the path {double!r:.60}")


def _recorded(site: SiteRecord, cls: type[nn.Module] | None, room: int, where: str) -> nn.Module:
    """Return the module that a receipt records, if the file holds as many weights as it has."""
    blueprint = site.blueprint()
    try:
        if cls is None or cls is _of_torch(site.module):
            _within(blueprint, room, where)  # without memory first: a receipt may name any size
        return make_module(blueprint, cls, 0)
    except ModswapError:
        raise
    except Exception as error:  # the arguments are the file's, the constructor anyone's
        what = f"{site.module[:60]!r} cannot be made: {one_line(error)}"
        raise _unfit(where, what) from error


def _within(blueprint: Blueprint, room: int, where: str, record: str = "receipt") -> int:
    """Return the weights of a module of the catalogue; refuse more than the file has left."""
    try:
        with torch.device("meta"):
            elements = _elements(make_module(blueprint, _of_torch(blueprint.module), 0))
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        what = f"{blueprint.module} cannot be made: {one_line(error)}"
        raise _unfit(where, what, record) from error
    if elements > room:
        what = f"{blueprint.module} would have {elements:,} weights, more than the file"
        raise _unfit(where, what, record)
    return elements


def _elements(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values() if torch.is_tensor(tensor))


def _unfit(where: str, what: str, record: str = "receipt") -> CheckpointError:
    fix = "write the file again with `modswap replace`"
    return CheckpointError(f"the {record} inside cannot be carried out: {what}", where, fix)


def _apply_embedded(
    model: nn.Module, text: str, weights: Mapping[str, Any], policy: Policy, where: str
) -> None:
    """Apply the recipe inside a file that has no receipt, within the bounds of a file's recipe."""
    recipe = embedded_recipe(text, where)
    room = sum(tensor.numel() for tensor in weights.values() if torch.is_tensor(tensor))
    _classes([rule.with_ for _, rule in recipe.rules], policy, where)
    for _, rule in recipe.rules:  # a layer of torch is made before it is known what it takes
        if _of_torch(rule.with_) is not None and _product(rule.args) > _TIMES * room:
            what = f"{rule.with_} would have more weights than the file"
            raise _unfit(where, what, "recipe")

    def judge(blueprint: Blueprint) -> None:
        nonlocal room
        # a class of the user's own may do as it likes
        if ":" not in blueprint.module or _of_torch(blueprint.module) is not None:
            room -= _within(blueprint, room, where, "recipe")

    with _closed([rule.with_ for _, rule in recipe.rules], policy, where):
        apply_recipe(model, recipe, judge)


def _closed(names: Sequence[str], policy: Policy, where: str) -> AbstractContextManager[None]:
    """Return a block in which files and network are closed to classes that the file chose.

    A class that the user named in full may reach them.
    """
    chosen = [name for name in names if ":" in name and _of_torch(name) is None]
    full = all(in_full(name.replace(":", "."), policy) for name in chosen)
    return nullcontext() if full else closed_off(where)


def _classes(names: Sequence[str], policy: Policy, where: str) -> dict[str, type[nn.Module]]:
    """Return the classes outside the catalogue that a file's own records name.

    Rows that other packages have put into the catalogue need to be allowed as well.
    """
    dotted = {name: name.replace(":", ".") for name in sorted(names) if ":" in name}
    rows = {name: CATALOGUE.reference(name) for name in sorted(names) if CATALOGUE.reference(name)}
    asked = {name: full for name, full in dotted.items() if _of_torch(name) is None}
    refused = [name for name, full in (asked | rows).items() if not allowed(full, policy)]
    if refused:
        what = f"it was swapped with {', '.join(refused)}, which a file may not import by itself"
        packages = {name: f"{full.rpartition('.')[0]}.*" for name, full in rows.items()}
        raise _unallowed(what, where, [(asked | packages)[name] for name in refused])
    return {name: _class(name, dotted[name], policy, where) for name in dotted}


def _unallowed(what: str, where: str, wanted: Sequence[str]) -> UnsafeError:
    """Return the error for names of a file; those that can run any code are never proposed."""
    dangerous = [name for name in wanted if runs_code(name.removesuffix(".*"))]
    if dangerous:
        names = ", ".join(dangerous)
        fix = f"do not load it unless it is your own: {names} can run any code"
        return UnsafeError(what, where, fix)
    options = [word for name in wanted for word in ("--allow", name)]
    fix = f"allow it if you trust that code: {' '.join(options)}"
    return UnsafeError(what, where, fix).with_retry(*options)


def _class(reference: str, dotted: str, policy: Policy, where: str) -> type[nn.Module]:
    """Return the class that a file names; of a package that is allowed, a layer of its own."""
    own = _of_torch(reference)
    if own is not None:
        return own
    if in_full(dotted, policy):
        return import_class(reference, folder=".", where=where)
    cls = class_in_package(dotted, folder=".", where=where)
    if cls is None or not issubclass(cls, nn.Module):
        what = f"it was swapped with {reference!r:.80}, which is no layer of the allowed package"
        raise UnsafeError(what, where, "do not load it unless it is your own")
    return cls


def _of_torch(reference: str) -> type[nn.Module] | None:
    """Return the layer of torch that `torch.nn:NAME` names; None for any other text."""
    package, _, name = reference.partition(":")
    found = vars(nn).get(name) if package == "torch.nn" else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _product(value: Any) -> int:
    """Return the product of all whole numbers above 1 in the arguments of a layer."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return prod(map(_product, value))
    return value if isinstance(value, int) and value > 1 else 1

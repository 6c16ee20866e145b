"""Making every new module before any goes in."""

import dis
import inspect
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from modswap.core.blueprint import Blueprint
from modswap.core.code import import_object
from modswap.core.errors import ModswapError, RecipeError, together
from modswap.core.nearest import did_you_mean
from modswap.core.plan import Plan, Step
from modswap.core.recipe import Recipe
from modswap.core.site import Site
from modswap.io.exporting import is_stand_in
from modswap.nn import CATALOGUE
from modswap.nn.construct import construct
from modswap.nn.custom import fit_custom
from modswap.nn.fitting import is_off, is_request
from modswap.nn.replacement import read_options
from modswap.ops.describe import one_line
from modswap.ops.rehearsal import positional


@dataclass(frozen=True, slots=True)
class Built:
    """One new module and where it goes.

    Args:
        step: The rule's step.
        sites: The sites that it takes; several where the rule says `share: true`.
        blueprint: How it was made.
        module: The module, on its site's device, in its dtype and mode.
        notes: What was carried over or left behind, a sentence each.
    """

    step: Step
    sites: tuple[Site, ...]
    blueprint: Blueprint
    module: nn.Module
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Return every path that it goes to."""
        return tuple(path for site in self.sites for path in site.paths)


def build(model: nn.Module, plan: Plan, recipe: Recipe) -> tuple[Built, ...]:
    """Return every new module that a plan asks for; the model is not touched.

    Args:
        model: The model, from which device, dtype, flags and plain attributes are taken over.
        plan: Which sites.
        recipe: For the seed, and for files relative to it.

    Raises:
        RecipeError: If a rule's `with` or `args` are wrong.
        ShapeError: If a module cannot be fitted to its site.
    """
    errors: list[ModswapError] = []
    made: list[Built] = []
    for step in plan.steps:
        try:
            fitted = _fit(step, recipe)
        except ModswapError as error:
            for one in error.all:
                one.rule = step.where
            errors.append(error)
            continue
        made += [_make(model, step, sites, blueprint, recipe) for sites, blueprint in fitted]
    if errors:
        raise together(errors)
    return tuple(made)


def _fit(step: Step, recipe: Recipe) -> list[tuple[tuple[Site, ...], Blueprint]]:
    """Return the sites of each new module, with how it is to be made."""
    errors: list[ModswapError] = []
    fitted: list[tuple[Site, Blueprint]] = []
    fit = Fitter(step, recipe)
    for site in step.sites:
        try:
            fitted.append((site, fit(site)))
        except RecipeError:
            raise  # of the rule, and so the same at every site
        except ModswapError as error:
            errors.append(error)
    if errors:
        raise together(errors)
    if not step.rule.share:
        return [((site,), blueprint) for site, blueprint in fitted]
    (first, blueprint), *others = fitted
    for site, other in others:
        if other != blueprint:
            where = recipe.at("replace", step.index, "share")
            what = f"{site.path} needs {_tell(other)}, {first.path} {_tell(blueprint)}"
            fix = "set the differing args, or use one rule for each size"
            raise RecipeError(f"one shared instance cannot fit both: {what}", where, fix)
    return [(tuple(site for site, _ in fitted), blueprint)]


def _tell(blueprint: Blueprint) -> str:
    args = ", ".join(f"{name}={value}" for name, value in blueprint.args.items())
    return f"{blueprint.module}({args})"


class Fitter:
    """What one rule puts in, ready to be fitted to each of its sites."""

    def __init__(self, step: Step, recipe: Recipe) -> None:
        self.step = step
        self.recipe = recipe
        name = step.rule.with_
        where = self._at("with")
        self.cls: type[nn.Module] | None = None
        if ":" in name:
            self.cls = import_class(name, folder=recipe.source.folder, where=where)
            self.args = self._named(inspect.signature(self.cls).parameters)
            return
        if name not in CATALOGUE:
            near = did_you_mean(name, CATALOGUE)
            fix = near or "run `modswap catalogue` to list them, or name a package.module:Class"
            raise RecipeError(f"no module {name!r} in the catalogue", where, fix)
        self.row = CATALOGUE[name]
        self.args = self._named(self.row.options.model_fields)
        at = {"prefix": self._at("prefix")} if step.rule.prefix is not None else {}
        self.options = read_options(
            self.row, self.args, lambda arg: at.get(arg, self._at("args", arg))
        )

    def _named(self, known: Container[str]) -> dict[str, Any]:
        """Return the rule's arguments, with its prefix among them.

        Raises:
            RecipeError: If the module takes no prefix, or is given two.
        """
        prefix = self.step.rule.prefix
        args = dict(self.step.rule.args)
        if prefix is None:
            return args
        if "prefix" not in known:
            what = f"{self.step.rule.with_} has no layers that a prefix could name"
            raise RecipeError(what, self._at("prefix"), "take `prefix` out")
        if args.setdefault("prefix", prefix) != prefix:
            what = f"prefix is {prefix!r} here, and {args['prefix']!r} in args"
            raise RecipeError(what, self._at("prefix"), "keep one of them")
        return args

    def _at(self, *place: str) -> str:
        return self.recipe.at("replace", self.step.index, *place)

    def __call__(self, site: Site) -> Blueprint:
        """Return how to make the module for a site."""
        rule = self.step.rule
        if rule.layout != "auto":
            site = replace(site, layout=rule.layout, layout_reason="set by the rule")
        if self.cls is None:
            return self.row.fit(site, self.options, adapt=rule.adapt)
        wants = None if rule.wants == "auto" else rule.wants
        return fit_custom(site, self.cls, rule.with_, self.args, adapt=rule.adapt, wants=wants)


def import_class(reference: str, *, folder: str, where: str) -> type[nn.Module]:
    """Return the module class that a user named.

    Raises:
        RecipeError: If it cannot be imported or is no `torch.nn.Module`.
    """
    found = import_object(reference, folder=folder, where=where)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        what = f"{reference!r} is {found!r:.80}, expected a class derived from torch.nn.Module"
        raise RecipeError(what, where, "name the class itself")
    return found


def _make(
    model: nn.Module, step: Step, sites: tuple[Site, ...], blueprint: Blueprint, recipe: Recipe
) -> Built:
    module = new_module(step, sites, blueprint, recipe)
    old = model.get_submodule(sites[0].path)
    notes = take_over(module, sites[0], host_attributes(old))
    hooks = sum(len(getattr(old, name, ())) for name in ("_forward_hooks", "_forward_pre_hooks"))
    if hooks:
        notes = (*notes, f"{hooks} forward hooks of the old module were left behind")
    notes = (*notes, *_not_passed_on(old, sites, blueprint.ignores))
    return Built(step, sites, blueprint, module, notes)


def _not_passed_on(
    old: nn.Module, sites: Sequence[Site], ignores: Sequence[str]
) -> tuple[str, ...]:
    """Return a note on inputs that were None or false, and that no later call may set."""
    given = [(name, value) for site in sites for call in site.calls for name, value in call.named]
    off = [
        name
        for name in ignores
        if not is_request(name) and any(one == name and is_off(value) for one, value in given)
    ]
    if not off:
        return ()
    names = positional(old, 1 + max((int(name) for name in off if name.isdigit()), default=-1))
    told = dict.fromkeys(names[int(name)] if name.isdigit() else name for name in off)
    which = "it" if len(told) == 1 else "one"
    verb = "is" if len(told) == 1 else "are"
    return (f"{', '.join(told)} {verb} not passed on: a call that sets {which} is refused",)


def new_module(
    step: Step, sites: tuple[Site, ...], blueprint: Blueprint, recipe: Recipe
) -> nn.Module:
    """Return a new module as a recipe's seed initialises it.

    Args:
        step: The rule's step.
        sites: Where it goes; the first path is part of the seed.
        blueprint: How to make it.
        recipe: For the seed, and for files relative to it.

    Raises:
        RecipeError: If its class cannot be imported, or it takes more memory than there is.
    """
    cls = None
    if ":" in blueprint.module:
        where = recipe.at("replace", step.index, "with")
        cls = import_class(blueprint.module, folder=recipe.source.folder, where=where)
    # a seed of its own for each path: a further rule does not change what this one draws
    seed = (recipe.seed + zlib.crc32(sites[0].path.encode())) % 2**63
    try:
        return make_module(blueprint, cls, seed)
    except (RuntimeError, MemoryError) as error:
        what = f"{blueprint.module} cannot be made: {one_line(error, 160)}"
        where = recipe.at("replace", step.index, "args")
        raise RecipeError(what, where, "ask for a smaller one") from error


def make_module(blueprint: Blueprint, cls: type[nn.Module] | None, seed: int) -> nn.Module:
    """Return a freshly initialised module; the random state outside is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return construct(blueprint, cls)


def take_over(module: nn.Module, site: Site, carried: Mapping[str, Any]) -> tuple[str, ...]:
    """Give a new module what its site had; return what is worth telling.

    Args:
        module: The new module, changed in place.
        site: For device, dtype, memory format, mode and whether it trains.
        carried: Plain attributes that the host put on the old module.
    """
    notes: list[str] = []
    dtype: torch.dtype = getattr(torch, site.dtype)
    module.to(device=site.device, dtype=dtype if dtype.is_floating_point else None)
    if site.channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs forget it
    module.train(site.training)
    if not site.trainable:
        module.requires_grad_(requires_grad=False)
        notes.append("frozen, as the old module's parameters were")
    carry_over(module, carried)
    if carried:
        notes.append(f"carried over what the host put on it: {', '.join(sorted(carried))}")
    return tuple(notes)


def carry_over(module: nn.Module, carried: Mapping[str, Any]) -> None:
    """Put plain attributes on a new module, where it has none of their names."""
    vars(module).update({n: value for n, value in carried.items() if n not in vars(module)})


def host_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes that no code of the module's own class could have set.

    A host framework puts them on from outside, such as the indices by which a detector routes
    its layers.
    """
    if is_stand_in(module):
        return {}  # what torch put there belongs to its graph
    own = set(vars(nn.Module())) | assigned(type(module).__mro__)
    return {
        name: value
        for name, value in vars(module).items()
        if name not in own
        and not name.startswith("__")
        and not isinstance(value, (torch.Tensor, nn.Module))
    }


def assigned(classes: Sequence[type]) -> set[str]:
    """Return the attribute names that classes have, or that their functions assign."""
    names: set[str] = set()
    for cls in classes:
        if cls in {object, nn.Module}:
            continue
        names.update(vars(cls))
        names.update(getattr(cls, "__annotations__", ()))
        for member in vars(cls).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                names |= _stored(function.__code__)
    return names


def _stored(code: CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _stored(constant)
    # an attribute set by its name in a string, as in setattr(self, "bias", …)
    if "setattr" in code.co_names:
        names |= {text for text in code.co_consts if isinstance(text, str)}
    return names

"""Making every new module before any goes in."""

import inspect
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from modswap.core.asked.recipe import Recipe
from modswap.core.decided.blueprint import Blueprint
from modswap.core.decided.plan import Plan, Step
from modswap.core.errors import ModswapError, RecipeError, together
from modswap.core.finding import HERE
from modswap.core.seen.site import Site
from modswap.core.words.nearest import in_question, nearest
from modswap.nn import CATALOGUE
from modswap.nn.catalogue.row import read_options
from modswap.nn.custom.fit import fit_custom
from modswap.nn.fit.inputs import is_off, is_request
from modswap.ops.build.make import import_class, new_module
from modswap.ops.build.take_over import host_attributes, take_over
from modswap.ops.run.describe import positional


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
            near = nearest(name, CATALOGUE)
            fix = in_question(near) or (
                "run `modswap catalogue` to list them, or name a package.module:Class"
            )
            settings = tuple((HERE, known) for known in near)
            what = f"no module {name!r} in the catalogue"
            raise RecipeError(what, where, fix, settings=settings)
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

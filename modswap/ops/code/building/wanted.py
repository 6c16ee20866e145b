"""The new modules of a swap, as their making is to be written into source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from modswap.core.asked.recipe import Recipe
from modswap.core.decided.blueprint import Blueprint
from modswap.core.kept.receipt import SiteRecord
from modswap.nn import CATALOGUE
from modswap.nn.adapters import SiteAdapter
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at
from modswap.ops.swap import Prepared


@dataclass(frozen=True, slots=True)
class NewModule:
    """A new module of the swapped model.

    Args:
        paths: Every path that holds it; several where it is shared.
        blueprint: How it is made.
        cls: Its class, without adapter and gate.
        observed: Arguments that were taken from the site, and not from the recipe.
        named: Arguments that the recipe says itself.
        beside: The paths of the modules that it is put in beside; empty where it replaces one.
    """

    paths: tuple[str, ...]
    blueprint: Blueprint
    cls: type[nn.Module]
    observed: frozenset[str]
    named: frozenset[str]
    beside: tuple[str, ...] = ()

    @property
    def kind(self) -> Blueprint:
        """Return what two modules that one call makes have in common."""
        return replace(self.blueprint, args={}, choices=())


def wanted_of_swap(prepared: Prepared) -> tuple[NewModule, ...]:
    """Return the new modules of a swap that is being made."""
    found = []
    for built in prepared.built:
        chosen = frozenset(choice.name for choice in built.blueprint.choices)
        beside = tuple(site.beside.path for site in built.sites if site.beside is not None)
        bare, named = _bare(built.module), frozenset(built.step.rule.args)
        found.append(NewModule(built.paths, built.blueprint, bare, chosen, named - chosen, beside))
    return tuple(found)


def wanted_of_receipt(
    sites: Sequence[SiteRecord], model: nn.Module, recipe: Recipe | None
) -> tuple[NewModule, ...]:
    """Return the new modules that a written file's receipt records; `recipe` is the one inside."""
    found = []
    for site in sites:
        said = _named(site.module, recipe)
        # what the rule leaves open, such as a null, was observed
        named = {n for n, v in said.items() if n in site.args and site.args[n] == v}
        observed = frozenset(site.args) - named
        around = map(_around, reversed(site.paths)) if site.joint is not None else ()
        beside = tuple(reversed({id(module_at(model, path)): path for path in around}.values()))
        bare = _bare(module_at(model, site.paths[0]))
        found.append(
            NewModule(site.paths, site.blueprint(), bare, observed, frozenset(named), beside)
        )
    return tuple(found)


def _named(module: str, recipe: Recipe | None) -> Mapping[str, Any]:
    """Return the arguments that the rules for a module say themselves."""
    rules = [rule for _, rule in recipe.rules] if recipe is not None else []
    return {
        name: value
        for rule in rules
        if module in {rule.with_, CATALOGUE.spelled(rule.with_)}
        for name, value in rule.args.items()
        if value != "auto"
    }


def _around(path: str) -> str:
    return path.rpartition(".")[0]


def _bare(module: nn.Module) -> type[nn.Module]:
    """Return the class of a new module without the gate and the adapter around it."""
    if isinstance(module, Insertion):
        module = module.module
    return type(module.module if isinstance(module, SiteAdapter) else module)

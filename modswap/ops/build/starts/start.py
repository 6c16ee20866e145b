"""Start the weights of a new module as its rule says."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.source import Place
from modswap.core.decided.plan import Step
from modswap.core.decided.started import FRESH, Started
from modswap.core.errors import CheckpointError, RecipeError
from modswap.core.seen.site import Site
from modswap.nn.inherit.attention_rows import Given
from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.apply import module_at
from modswap.ops.build.make import seed_of
from modswap.ops.build.starts.donate import donate
from modswap.ops.build.starts.inherit import Heir, heir_of
from modswap.ops.build.starts.initialise import initialise
from modswap.ops.load.donor import donated
from modswap.ops.run.random_weights import placeholders


@dataclass(eq=False)
class Starts:
    """The starts of the new modules of a swap.

    Args:
        values: Whether weights may be read; without, what would be mapped is judged by shapes.
        ignored: Whether all modules begin fresh, as for a file whose weights follow.
        policy: The classes that a donor's file may build.
    """

    values: bool = True
    ignored: bool = False
    policy: Policy = field(default_factory=Policy)
    _heirs: dict[tuple[Place, str], Heir] = field(default_factory=dict, repr=False)

    def arguments(self, model: nn.Module, step: Step, site: Site, cls: Any) -> Mapping[str, Any]:
        """Return the arguments of a new module that follow from the old one."""
        if self.ignored or step.rule.start != "inherit":
            return {}
        return self._heir(model, step, site, cls).arguments

    def heir(self, step: Step, site: Site) -> Heir | None:
        """Return the old module of a site from which the new one inherits; None if it does not."""
        return self._heirs.get((step.place, site.path))

    def _heir(self, model: nn.Module, step: Step, site: Site, cls: Any) -> Heir:
        key = step.place, site.path
        if key not in self._heirs:
            old = module_at(model, site.path)
            self._heirs[key] = heir_of(old, site, cls, placeholders(model))
        return self._heirs[key]

    def begin(
        self,
        model: nn.Module,
        step: Step,
        sites: tuple[Site, ...],
        module: nn.Module,
        recipe: Recipe,
    ) -> Started:
        """Give a new module its first weights; return where they come from.

        Raises:
            ShapeError: If it can inherit nothing, or a donor or an initialiser does not fit.
            RecipeError: If one module would inherit from several.
        """
        rule, path = step.rule, sites[0].path
        if self.ignored:
            return FRESH
        started = FRESH
        if rule.start == "inherit":
            if len(sites) > 1:
                what = f"one shared instance cannot inherit from {len(sites)} modules"
                where = recipe.at(*step.place, "start")
                raise RecipeError(what, where, "set `share: false`")
            started = self._inherit(model, step, sites[0], module)
        elif rule.donor is not None:
            where = recipe.at(*step.place, "donor")
            folder = recipe.source.folder
            with donated(rule.donor, folder, self.policy, where, values=self.values) as weights:
                given = donate(module, weights, rule.donor, path)
                started = self._put(given, module, rule.start)
        if rule.init is None:
            return started
        seed = seed_of(recipe, path)
        notes = initialise(module, rule.init, seed=seed, path=path, keep=started.mapped)
        return Started(started.start, started.mapped, (*started.notes, *notes), started.valued)

    def _inherit(self, model: nn.Module, step: Step, site: Site, module: nn.Module) -> Started:
        heir = self._heir(model, step, site, None)
        state = {name: t.detach() for name, t in tensors_of(heir.old).items()}
        if not self.values:
            state = {name: torch.empty_like(t, device="meta") for name, t in state.items()}
        elif unread := [name for name, t in state.items() if t.is_meta]:
            what = f"its weights were not read, as {unread[0]}: nothing can be inherited"
            fix = "save the file again by torch.save, so that it can be mapped, or start fresh"
            raise CheckpointError(what, site.path, fix)
        return self._put(heir.give(module, state), module, "inherit")

    def _put(self, given: Given, module: nn.Module, start: str) -> Started:
        """Copy values into a module, if weights may be read."""
        if self.values:
            _fill(module, given)
        return Started(start, dict(given.sources), tuple(given.notes), self.values)


def _fill(module: nn.Module, given: Given) -> None:
    own = tensors_of(module)
    with torch.no_grad():
        for name, value in given.values.items():
            own[name].copy_(value)


def renewed(module: nn.Module, heir: Heir, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a module that inherits from another state of the old module.

    A checkpoint may hold copies of its model, such as averages, with weights of their own.
    """
    copy = deepcopy(module)
    wanted = tensors_of(heir.old)
    _fill(copy, heir.give(copy, {name: state[name].detach() for name in wanted}))
    return copy

"""Fit a rule to its sites, and make every new module before any is applied."""

import inspect
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.decided.plan import Plan, Step
from modswap.core.decided.started import FRESH, Started
from modswap.core.errors import ModswapError, OutputError, RecipeError, ShapeError, together
from modswap.core.seen.joint import Form
from modswap.core.seen.site import BY_RULE, Layout, Site, gated
from modswap.nn import CATALOGUE
from modswap.nn.catalogue.row import read_options
from modswap.nn.custom.fit import fit_custom
from modswap.nn.fit.further_inputs import shown_input
from modswap.nn.fit.inputs import is_off, is_request, of_its_map
from modswap.nn.fit.outputs import as_head
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at
from modswap.ops.build.make import import_class, new_module
from modswap.ops.build.starts.inherit import Heir
from modswap.ops.build.starts.start import Starts
from modswap.ops.build.take_over import (
    carry_over_from,
    host_attributes,
    take_over,
)
from modswap.ops.build.unused_inputs import unused_inputs
from modswap.ops.run.describe import positional


@dataclass(frozen=True, slots=True)
class Built:
    """A new module, made of a blueprint, and its sites in a step.

    There are several sites where the rule says `share: true`. The module is on its site's device,
    in its dtype and mode; the notes name attributes and hooks carried over or left behind.
    `started` says where its weights come from. A module that was `there` before has other values
    alone, so that no receipt records it.
    """

    step: Step
    sites: tuple[Site, ...]
    blueprint: Blueprint
    module: nn.Module
    notes: tuple[str, ...] = ()
    started: Started = FRESH
    heir: Heir | None = None  # the old module, where the new one inherits from it
    there: bool = False

    @property
    def layer(self) -> nn.Module:
        """Return the new module without the gate that joins it to a module beside it."""
        return self.module.module if isinstance(self.module, Insertion) else self.module

    @property
    def paths(self) -> tuple[str, ...]:
        """Return every path of its sites."""
        return tuple(path for site in self.sites for path in site.paths)


OLD_HAS_IT = "by the old module, whose weights are inherited"
# layers of torch that recipes name as rows of the catalogue
BARE = {"identity": "torch.nn:Identity"}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
Fit = Callable[["Fitter", Site], Blueprint]
IsLast = Callable[[Site], bool | None]
Judge = Callable[[Blueprint], None]
Make = Callable[[Step, tuple[Site, ...], Blueprint], Built]


def build(
    model: nn.Module,
    plan: Plan,
    recipe: Recipe,
    judge: Judge = lambda _: None,
    starts: Starts | None = None,
    is_last: IsLast = lambda _: None,
) -> tuple[Built, ...]:
    """Return every new module that a plan asks for; the model is not touched.

    Device, dtype, flags and plain attributes are taken over from the modules of the model. `judge`
    may refuse a module before it is made. `starts` gives it its first weights. `is_last` says
    whether a site gives the model's output.
    """
    begun = Starts() if starts is None else starts

    def make(step: Step, sites: tuple[Site, ...], blueprint: Blueprint) -> Built:
        judge(blueprint)
        module = new_module(step, sites, blueprint, recipe)
        old = module_at(model, (sites[0].beside or sites[0]).path)
        replaced = sites[0].beside is None
        notes = list(take_over(module, sites[0], host_attributes(old) if replaced else {}))
        if replaced:
            carry_over_from(old, module)
        tables = (getattr(old, name, ()) for name in ("_forward_hooks", "_forward_pre_hooks"))
        hooks = sum(map(len, tables)) if replaced else 0
        if hooks:
            notes.append(f"{hooks} forward hooks of the old module were left behind")
        notes += [*_chosen(blueprint.choices), *_not_passed_on(old, sites, blueprint.ignores)]
        notes += _dropped(step, sites[0], blueprint.drops)
        layer = module.module if isinstance(module, Insertion) else module
        started = begun.begin(model, step, sites, layer, recipe)
        heir = begun.heir(step, sites[0]) if layer is module else None
        started = started if layer is module else started.under("module.")
        return Built(step, sites, blueprint, module, (*notes, *started.notes), started, heir)

    def fit(fitter: Fitter, site: Site) -> Blueprint:
        if fitter.may_be_head:
            site = replace(site, is_last=is_last(site))
        taken = begun.arguments(model, fitter.step, site, fitter.made)
        try:
            return fitter.fit(site, taken)
        except ShapeError as error:
            unused = unused_inputs(model, site.beside or site)
            if not unused:
                raise _with_ways(error, fitter, site, is_last) from None
        return fitter.fit(replace(site, unused=unused), taken)

    return build_plan(plan, recipe, fit, make)


def _chosen(choices: Sequence[Choice]) -> Iterator[str]:
    """Yield a note on arguments that are the site's in place of defaults, or that fix a size."""
    replacing, fixing = ([c for c in choices if getattr(c, name)] for name in ("replaces", "fixes"))
    values = ", ".join(f"{c.name}={c.value}" for c in choices if c in replacing or c in fixing)
    size = f"; by {' and '.join(c.name for c in fixing)} it takes this size alone" if fixing else ""
    rather = ", in place of its defaults" if replacing else ""
    if values:
        yield f"made with {values} of the site{rather}{size}"


def _with_ways(error: ShapeError, fitter: "Fitter", site: Site, is_last: IsLast) -> ShapeError:
    """Return an error about the output of a site with the other ways to change it."""
    if not isinstance(error, OutputError):
        return error
    if fitter.keeps_output:
        return as_head(error, is_last=is_last(site), named=fitter.args.values())
    if site.joint is None or site.joint.place == "instead":
        return error
    # a place beside a module keeps its shape
    return error.with_fix(f"{error.fix}; what changes the shape replaces a module instead")


def build_plan(plan: Plan, recipe: Recipe, fit: Fit, make: Make) -> tuple[Built, ...]:
    """Return the new modules of all steps, or raise the errors of all steps together."""
    errors: list[ModswapError] = []
    built: list[Built] = []
    for step in plan.steps:
        try:
            fitter = Fitter(step, recipe)
            for sites, blueprint in _fitted(fitter, fit):
                made = make(step, sites, blueprint)
                built.append(replace(made, notes=(*fitter.notes, *made.notes)))
        except ModswapError as error:
            for one in error.all:
                one.rule = step.where
            errors.append(error)
    if errors:
        raise together(errors)
    return tuple(built)


def _fitted(fitter: "Fitter", fit: Fit) -> list[tuple[tuple[Site, ...], Blueprint]]:
    """Return the sites of each new module of a rule, with the blueprint of the module.

    All sites are tried before the errors of those that no module fits are raised together.
    """
    errors: list[ModswapError] = []
    fitted: list[tuple[Site, Blueprint]] = []
    step = fitter.step
    for site in step.sites:
        try:
            fitted.append((site, fit(fitter, site)))
        except RecipeError:
            raise  # the rule is wrong, so the error is the same at every site
        except ModswapError as error:
            errors.append(error)
    if errors:
        raise together(errors)
    if not step.rule.share:
        return [((site,), blueprint) for site, blueprint in fitted]
    return [_shared(fitted, fitter.recipe.at(*step.place, "share"))]


def _shared(
    fitted: Sequence[tuple[Site, Blueprint]], where: str
) -> tuple[tuple[Site, ...], Blueprint]:
    """Return all sites with their common blueprint."""
    (first, blueprint), *others = fitted
    for site, other in others:
        if other != blueprint:
            what = f"{site.path} needs {_text(other)}, {first.path} {_text(blueprint)}"
            fix = "set the differing args, or use one rule for each size"
            raise RecipeError(f"one shared instance cannot fit both: {what}", where, fix)
    return tuple(site for site, _ in fitted), blueprint


def _text(blueprint: Blueprint) -> str:
    args = ", ".join(f"{name}={value}" for name, value in blueprint.args.items())
    return f"{blueprint.module}({args})"


class Fitter:
    """The class or catalogue row that a rule names, with its arguments checked."""

    def __init__(self, step: Step, recipe: Recipe) -> None:
        self.step = step
        self.recipe = recipe
        name = self.name = BARE.get(step.rule.with_.lower(), step.rule.with_)
        where = self._at("with")
        self.notes: tuple[str, ...] = ()  # for the report of each site
        self.cls: type[nn.Module] | None = None
        if ":" in name:
            self.cls = import_class(name, folder=recipe.source.folder, where=where)
            self.args = self._named(inspect.signature(self.cls).parameters)
            return
        known = CATALOGUE.spelled(name)
        if known is None:
            # no setting that `check --fix` could make: a near name may be another module
            what = f"no module {name!r:.80} in the catalogue"
            raise RecipeError(what, where, CATALOGUE.advice(name))
        if known != name:
            self.notes = (f"{name} is another name of {known} of the catalogue",)
        self.row = CATALOGUE[known]
        self.args = self._named(self.row.options.model_fields)
        at = {"prefix": self._at("prefix")} if step.rule.prefix is not None else {}
        self.options = read_options(
            self.row, self.args, lambda arg: at.get(arg, self._at("args", arg))
        )

    def _named(self, known: Container[str]) -> dict[str, Any]:
        """Return the rule's arguments, with its prefix among them."""
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
        return self.recipe.at(*self.step.place, *place)

    @property
    def made(self) -> Callable[..., nn.Module]:
        """Return the class of the new module."""
        return self.row.module if self.cls is None else self.cls

    def fit(self, site: Site, taken: Mapping[str, Any] = MappingProxyType({})) -> Blueprint:
        """Return the blueprint of the new module for a site that a pass has shown.

        `taken` are arguments that follow from the old module, where the rule leaves them open.
        """
        rule = self.step.rule
        if isinstance(rule, Rule) and rule.input is not None:
            site = replace(site, carrier=str(rule.input))
        site = of_its_map(site)
        if rule.layout != "auto":
            site = replace(site, layout=rule.layout, layout_reason=BY_RULE)
        if rule.grid is not None:
            layout: Layout | None = site.layout or "NLC"  # only tokens have a grid
            site = replace(site, grid=rule.grid, layout=layout)
        if isinstance(rule, Rule):
            named: Literal["", "sizes"] = "sizes" if rule.output == "changed" else ""
            site = replace(site, changes=named or ("channels" if self._is_head(site) else ""))
        blueprint = self._blueprint(site, taken)
        if site.joint is None:
            return blueprint
        return replace(blueprint, joint=gated(site, site.joint, self._form))

    @property
    def _form(self) -> Form:
        """Return how a new module's output reaches what is kept."""
        if isinstance(self.step.rule, Rule):
            return "blend"
        if self.step.rule.start == "fresh":
            return "plain"
        around = self.step.key == "around"
        return "scale" if self.cls is None and self.row.gates and not around else "add"

    def _blueprint(self, site: Site, taken: Mapping[str, Any]) -> Blueprint:
        """Return the blueprint of the new module itself."""
        rule = self.step.rule
        if self.cls is None:
            open_ = {n: v for n, v in taken.items() if n not in self.options.model_fields_set}
            options = self.options.model_copy(update=open_)
            fitted = self.row.fit(site, options, adapt=rule.adapt)
            choices = (Choice(name, value, OLD_HAS_IT) for name, value in open_.items())
            return replace(fitted, choices=(*fitted.choices, *choices))
        wants = None if rule.wants == "auto" else rule.wants
        return fit_custom(site, self.cls, self.name, self.args, adapt=rule.adapt, wants=wants)

    @property
    def keeps_output(self) -> bool:
        """Return whether the rule replaces a module and does not say how its output is kept."""
        rule = self.step.rule
        if not isinstance(rule, Rule) or rule.adapt:
            return False
        return rule.output == "same" and rule.start != "preserve"

    @property
    def may_be_head(self) -> bool:
        """Return whether the rule names the channels of a convolution, for a new head perhaps."""
        named = self.cls in CONVOLUTIONS and isinstance(self.args.get("out_channels"), int)
        return named and self.keeps_output

    def _is_head(self, site: Site) -> bool:
        """Return whether the rule names the size of a new head's output.

        It does for a linear layer and a 1x1 convolution, and for any other convolution where it
        gives the model's output. A rule with `adapt: true` keeps the output as it was.
        """
        if self.cls is nn.Linear:
            return self.keeps_output and isinstance(self.args.get("out_features"), int)
        single = self.cls is nn.Conv2d and self.args.get("kernel_size") in (1, [1, 1])
        return self.may_be_head and (single or site.is_last is True)


def _dropped(step: Step, site: Site, drops: Sequence[str]) -> tuple[str, ...]:
    """Return a note on inputs of any value that are not passed on."""
    if not drops:
        return ()
    names = ", ".join(shown_input(site, name) for name in drops)
    verb = "is" if len(drops) == 1 else "are"
    why = "the old module's output does not depend on "
    why += "it" if len(drops) == 1 else "them"
    if isinstance(step.rule, Rule) and step.rule.input is not None:
        why = f"the rule says `input: {step.rule.input}`"
    return (f"{names} {verb} not passed on: {why}",)


def _not_passed_on(
    old: nn.Module, sites: Sequence[Site], ignores: Sequence[str]
) -> tuple[str, ...]:
    """Return a note on inputs that were None or false: a later call that sets them is refused."""
    calls = (call for site in sites for call in site.calls)
    was_off = {name for call in calls for name, value in call.named if is_off(value)}
    off = [name for name in ignores if name in was_off and not is_request(name)]
    if not off:
        return ()
    count = 1 + max((int(name) for name in off if name.isdigit()), default=-1)
    names = {str(index): name for index, name in enumerate(positional(old, count))}
    shown = dict.fromkeys(names.get(name, name) for name in off)
    verb, which = ("is", "it") if len(shown) == 1 else ("are", "one")
    return (f"{', '.join(shown)} {verb} not passed on: a call that sets {which} is refused",)

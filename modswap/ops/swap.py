"""A swap in memory: trace, plan, build, apply, verify."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn

from modswap.core.asked.recipe import Recipe
from modswap.core.decided.outputs import Expected
from modswap.core.decided.plan import Plan, make_plan
from modswap.core.decided.verdict import Pass, Verdict, judge
from modswap.core.errors import InputError, MatchError, UsageError
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.nn.fake_tensors import needs_values
from modswap.ops.apply import Placement, applied, apply, module_at
from modswap.ops.build.exported_calls import check_calls
from modswap.ops.build.fit import Built, Judge, build
from modswap.ops.build.places import open_spots, spots_of, with_spots
from modswap.ops.build.starts.start import Starts
from modswap.ops.run.devices import is_without_data
from modswap.ops.run.inputs import Case, DummyCall, calls_of, cases_of
from modswap.ops.trace.last_modules import LastModules
from modswap.ops.trace.operations import with_operations
from modswap.ops.trace.passes import Trace, trace
from modswap.ops.trace.sites import sites_of
from modswap.ops.trace.token_grids import with_grids


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that is decided and made before the model is touched.

    Args:
        cases: The passes that verify the swap.
        before: Their traces of the model as it is.
        plan: The sites of each rule.
        built: Every new module.
        unreal: Whether the passes run on tensors without data.
        seed: For inputs and for random numbers that the model draws.
        notes: Sentences for the report.
        expect: Shapes that outputs of the swapped model must have, by name.
        close: Takes the places beside modules out of the model again, which were made for `built`.
    """

    cases: tuple[Case, ...]
    before: tuple[Trace, ...]
    plan: Plan
    built: tuple[Built, ...]
    unreal: bool
    seed: int
    notes: tuple[str, ...] = ()
    expect: Expected = field(default_factory=dict)
    close: Callable[[], None] = field(default=lambda: None)

    def site(self, path: str) -> Site:
        """Return the site of a path, which has a new module."""
        return next(site for built in self.built for site in built.sites if site.path == path)

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the paths of the sites whose output changes, as their rules say."""
        return tuple(built.sites[0].path for built in self.built if built.blueprint.changes)

    @property
    def placements(self) -> list[Placement]:
        """Return each new module with its paths."""
        return [(built.paths, built.module) for built in self.built]


@dataclass(frozen=True, slots=True)
class Making:
    """The making of new modules: `judge` may refuse one before; `starts` gives it its weights."""

    judge: Judge = lambda _: None
    starts: Starts | None = None


def prepare(
    model: nn.Module,
    recipe: Recipe,
    calls: Sequence[DummyCall] = (),
    *,
    unreal: bool = False,
    progress: Progress = silent,
    making: Making = Making(),
) -> Prepared:
    """Trace a model, plan a recipe and build every new module; the model stays as it is.

    Dummy calls, if there are any, take the place of the recipe's `inputs`. An `unreal` swap runs
    on fake tensors, so that no weight is read.

    Raises:
        UsageError: If there is no dummy input.
        InputError: If the dummy input does not fit the model.
        RecipeError: If a rule is wrong; MatchError, if it selects what it should not.
        ShapeError: If a module cannot be fitted to its site, or it is not known how it is called.
    """
    calls = tuple(calls) or calls_of(recipe.inputs)
    if not calls:
        what = "there is no dummy input"
        fix = "give one: `--input 1,3,224,224`, or `inputs:` in the recipe"
        raise UsageError(what, "--input" if recipe.source.options else recipe.source.name, fix)
    cases = cases_of(calls, recipe.verify)
    unreal = unreal or is_without_data(model)
    progress("reference pass")
    before, unreal, notes = _reference(model, cases, seed=recipe.seed, unreal=unreal)
    progress("planning")
    plan = _planned(model, recipe, before, partial(trace, model, cases[0], unreal=unreal))
    notes += check_calls(model, plan)
    spots = spots_of(model, plan, recipe, lambda: sites_of(model, _first(before)))
    close = open_spots(model, spots)
    try:
        if spots:
            before, unreal, _ = _reference(model, cases, seed=recipe.seed, unreal=unreal)
            plan = with_spots(plan, spots, sites_of(model, _first(before)))
        reached = [c for c, one in zip(cases, before, strict=True) if one in _first(before)]
        plan = with_grids(model, plan, reached, seed=recipe.seed, unreal=unreal)
        progress("building the new modules")
        last = LastModules(model, reached, seed=recipe.seed, unreal=unreal)
        built = build(model, plan, recipe, making.judge, making.starts, last.is_last)
    except BaseException:
        close()
        raise
    expect = recipe.verify.expect
    return Prepared(cases, before, plan, built, unreal, recipe.seed, notes, expect, close)


def plan_of(
    model: nn.Module, recipe: Recipe, calls: Sequence[DummyCall], *, unreal: bool = False
) -> Plan:
    """Return the sites that the rules of a recipe select; nothing is built.

    Raises:
        InputError: If the dummy input does not fit the model.
        MatchError: If a rule selects what it should not.
    """
    cases = cases_of(tuple(calls), recipe.verify)
    unreal = unreal or is_without_data(model)
    before, unreal, _ = _reference(model, cases, seed=recipe.seed, unreal=unreal)
    return _planned(model, recipe, before, partial(trace, model, cases[0], unreal=unreal))


def _planned(
    model: nn.Module, recipe: Recipe, before: Sequence[Trace], run: Callable[[], object]
) -> Plan:
    """Return the plan; an error about an operation names the modules around it."""
    try:
        return make_plan(recipe, sites_of(model, _first(before)))
    except MatchError as error:
        raise with_operations(error, model, run) from None


def _first(traces: Sequence[Trace]) -> list[Trace]:
    """Return the traces in the mode and dtype of the first one."""
    key = traces[0].seen.case
    return [t for t in traces if (t.seen.case.mode, t.seen.case.dtype) == (key.mode, key.dtype)]


def _reference(
    model: nn.Module, cases: Sequence[Case], *, seed: int, unreal: bool
) -> tuple[tuple[Trace, ...], bool, tuple[str, ...]]:
    """Return the trace of each case, on real tensors if those without data do not suffice."""
    traces = tuple(trace(model, case, seed=seed, unreal=unreal, quick=True) for case in cases)
    failed = next((one for one in traces if one.cause is not None), None)
    if failed is not None and unreal:
        # fake tensors have limits of their own: only a real pass may accuse the input
        reason = "the model's shapes depend on values" if needs_values(failed.cause) else ""
        real, _, _ = _reference(model, cases, seed=seed, unreal=False)
        why = reason or f"it cannot run on fake tensors ({failed.seen.error})"
        return real, False, (f"the weights were read: {why}",)
    if failed is not None:
        failed.raise_own_error()
        raise refused(failed)
    return traces, unreal, ()


def refused(failed: Trace) -> InputError:
    """Return the error for a dummy input that the model, as it is, does not take."""
    seen = failed.seen
    place = f" in {seen.raised_in!r}" if seen.raised_in else ""
    what = f"the model refuses the dummy input {seen.case}{place}: {seen.error}"
    fix = "give an input that the model takes: `--input SHAPE`"
    if "list of" in str(seen.error):  # as models of detection say
        fix += ", or a list of tensors in a recipe, `inputs: [{args: [[{shape: [3, 64, 96]}]]}]`"
    return InputError(what, "inputs", fix)


@dataclass(frozen=True, slots=True)
class Verified:
    """A swap in place, with the verdict of its passes."""

    verdict: Verdict
    after: tuple[Trace, ...]
    old: Mapping[str, nn.Module]  # by the path of their site


@contextmanager
def verified(model: nn.Module, prepared: Prepared, progress: Progress) -> Iterator[Verified]:
    """Swap, run every case again and judge; the old modules come back if the block raises."""
    paths = [built.sites[0].path for built in prepared.built]
    sites = [site.path for built in prepared.built for site in built.sites]
    old = {path: module_at(model, path) for path in sites}
    try:
        with applied(model, prepared.placements):
            progress("verification pass")
            after = _again(model, prepared)
            before = [renamed(one.seen, prepared.built) for one in prepared.before]
            seen = [one.seen for one in after]
            verdict = judge(before, seen, paths, prepared.changed, prepared.expect)
            yield Verified(verdict, after, old)
    except BaseException:
        prepared.close()
        raise


def _again(model: nn.Module, prepared: Prepared) -> tuple[Trace, ...]:
    cases, seed, unreal = prepared.cases, prepared.seed, prepared.unreal
    after = tuple(trace(model, case, seed=seed, unreal=unreal, quick=True) for case in cases)
    if unreal and any(needs_values(one.cause) for one in after):
        after = tuple(trace(model, case, seed=seed) for case in cases)
    for one in after:
        one.raise_own_error()
    return after


def renamed(seen: Pass, built: Sequence[Built]) -> Pass:
    """Return a pass in which sites that share a new module have the path of the first of them."""
    names = {s.path: b.sites[0].path for b in built for s in b.sites[1:]}
    if not names:
        return seen
    visits = tuple(replace(v, path=names.get(v.path, v.path)) for v in seen.visits)
    return replace(seen, visits=visits)


def apply_recipe(model: nn.Module, recipe: Recipe, judge: Judge = lambda _: None) -> nn.Module:
    """Give a model the structure of a recipe, to load weights into; return the same model.

    The sites are traced on fake tensors. Nothing is verified: the weights that follow decide.

    Args:
        model: A model as its factory builds it, changed in place.
        recipe: The rules.
        judge: May raise an error about a module before it is made.

    Raises:
        ModswapError: If the recipe or its input does not fit the model.

    Examples:
        >>> from pathlib import Path
        >>> from torch import nn
        >>> rules = "replace: [{match: '1', with: ECA}]"
        >>> text = f"{{version: 1, inputs: [{{shape: [1, 3, 16, 16]}}], {rules}}}"
        >>> _ = Path("swap.yaml").write_text(text)
        >>> fresh = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
        >>> type(modswap.apply_recipe(fresh, modswap.read_recipe("swap.yaml"))[1]).__name__
        'ECA'
    """
    making = Making(judge, Starts(ignored=True))
    prepared = prepare(model, recipe, unreal=True, making=making)
    apply(model, prepared.placements)
    return model

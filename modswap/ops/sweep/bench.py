"""A model, its samples and all that the trials of a sweep have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.recipe import Recipe
from modswap.core.decided.plan import Plan
from modswap.core.errors import UsageError, together
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.core.swept.grid import Grid, refuse_wrong, trials_of
from modswap.core.swept.record import SiteTrial, SweptCost
from modswap.nn import CATALOGUE
from modswap.nn.catalogue.row import Replacement, wrong_values
from modswap.ops.apply import module_at
from modswap.ops.build.fit import BARE
from modswap.ops.build.starts.start import Starts
from modswap.ops.heal.data.taker import Taker
from modswap.ops.heal.healer import HELD, MOST_HELD
from modswap.ops.heal.inherit import inheriting
from modswap.ops.heal.run import HealingWishes, samples_for
from modswap.ops.heal.samples import Samples
from modswap.ops.heal.sites import HealedSite
from modswap.ops.heal.working import running, working_copy
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import set_mode
from modswap.ops.run.process_memory import available
from modswap.ops.swap import plan_of
from modswap.ops.sweep.blocks import blocks_of
from modswap.ops.sweep.calls import KeptCalls
from modswap.ops.sweep.costs import Given, calls_in_pass, cost_of_model

STARTS = ("fresh", "inherit")  # a gate of 0, or the weights of another file say nothing of a site
_SHARE = 4  # of the free memory, in which calls of a site are kept
_ROOM_BYTES = 1 << 30  # where the free memory is not known


@dataclass(frozen=True, slots=True)
class SweepWishes:
    """The modules and options to try, and the data to try them on.

    Args:
        recipe: Its single rule selects the sites.
        data: What the samples are read from, as a healing takes it.
        request: The wishes about samples and, for the best trials, about their healing.
        modules: Names of the new modules; empty for that of the rule.
        grid: Values of the options that are varied.
        size: Height and width that the user said by the input; None for none.
        progress: Takes the step in words.
        starts: Gives new modules their first weights.
    """

    recipe: Recipe
    data: Any
    request: HealingRequest = field(default_factory=HealingRequest)
    modules: tuple[str, ...] = ()
    grid: Grid = field(default_factory=dict)
    size: tuple[int, int] | None = None
    progress: Progress = silent
    starts: Callable[[], Starts] = Starts


@dataclass(eq=False)
class TrialBench:
    """All that trials share: both models, the samples, the sites with their blocks.

    Args:
        models: The original, and a copy in which one module at a time is swapped.
        wishes: The wishes of the user.
        case: The dummy pass by which a swap is verified, and costs are counted.
        plan: The sites of the rule.
        learn: Numbers of the samples that closed forms learn from.
        held: Numbers of those that errors are measured on.
        blocks: The path of the block around each site.
        given: The arguments of the calls of each site in the dummy pass.
        before: The cost of the model as it is.
        inherit: Gives a new module what it inherits.
    """

    models: KeptCalls
    wishes: SweepWishes
    case: Case
    plan: Plan
    learn: tuple[int, ...]
    held: tuple[int, ...]
    blocks: dict[str, str]
    given: dict[str, Sequence[Given]]
    before: SweptCost
    inherit: Callable[[HealedSite], bool]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Return the sites of the rule."""
        return self.plan.steps[0].sites

    def trials(self) -> tuple[SiteTrial, ...]:
        """Return every trial that is asked for.

        Raises:
            UsageError: If an option is one of none of the modules.
        """
        rule, modules = self.wishes.recipe.replace[0], modules_of(self.wishes)
        paths = [site.path for site in self.sites]
        return trials_of(paths, modules, rule.args, self.wishes.grid)


def modules_of(wishes: SweepWishes) -> dict[str, tuple[str, ...] | None]:
    """Return the new modules, each with its options; None for those of a class that is named.

    Raises:
        UsageError: If one is not in the catalogue.
    """
    rows = _rows_of(wishes)
    return {name: tuple(row.options.model_fields) if row else None for name, row in rows.items()}


def _rows_of(wishes: SweepWishes) -> dict[str, Replacement | None]:
    names = wishes.modules or (wishes.recipe.replace[0].with_,)
    return {name: None if ":" in name else _row_of(name) for name in names}


def _row_of(name: str) -> Replacement | None:
    bare = BARE.get(name.lower(), name)
    if ":" in bare:
        return None
    known = CATALOGUE.spelled(bare)
    if known is None:
        raise UsageError(
            f"no module {name!r:.80} in the catalogue", "--with", CATALOGUE.advice(name)
        )
    return CATALOGUE[known]


def _refuse_wrong_values(wishes: SweepWishes) -> None:
    """Refuse values that a module cannot take at any site.

    Raises:
        RecipeError: If there are some; names all of them.
    """
    settings = [("--set", name, one) for name, one in wishes.recipe.replace[0].args.items()]
    varied = [("--grid", name, one) for name, values in wishes.grid.items() for one in values]
    errors = [
        error
        for row in filter(None, _rows_of(wishes).values())
        for option, name, value in (*settings, *varied)
        if name in row.options.model_fields
        for error in wrong_values(row, {name: value}, _placed(option)).values()
    ]
    if errors:
        raise together(errors)


def _placed(option: str) -> Callable[[str], str]:
    return lambda name: f"{option} {name}"


def bench_of(taker: Taker, wishes: SweepWishes) -> TrialBench:
    """Return the bench of a sweep; the model is not changed.

    Raises:
        ModswapError: If the rule or the data do not fit the model.
    """
    request, progress = wishes.request, wishes.progress
    start = wishes.recipe.replace[0].start
    if start not in STARTS:
        what = f"a sweep tries modules that begin fresh or inherit, not {start!r:.40}"
        raise UsageError(what, "--start", "write fresh or inherit")
    refuse_wrong(modules_of(wishes), wishes.recipe.replace[0].args, wishes.grid)
    _refuse_wrong_values(wishes)
    progress("planning")
    original = running(taker.model, request)
    case = Case(taker.call)
    plan = plan_of(original, wishes.recipe, (taker.call,))
    asked = HealingWishes(wishes.data, request, wishes.size, progress)
    samples, _ = samples_for(taker, asked)
    learn, held = _parts(samples, request)
    swept = working_copy(original, (), request)
    set_mode(swept, training=False)
    paths = [site.path for site in plan.steps[0].sites]
    progress("measuring the model as it is")
    olds = {path: module_at(original, path) for path in paths}
    free = available()
    room = _ROOM_BYTES if free is None else free // _SHARE
    models = KeptCalls(original, swept, samples, request.batch, room=room)
    return TrialBench(
        models,
        wishes,
        case,
        plan,
        learn,
        held,
        blocks_of(original, samples.batch(held[:2]), paths),
        calls_in_pass(original, case, olds),
        cost_of_model(original, case, timed=True),
        inheriting(original, case),
    )


def _parts(samples: Samples, request: HealingRequest) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the samples to learn from, and those held out, as a healing parts them."""
    count = min(samples.count, request.samples)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(request.seed)).tolist()
    held = min(count // HELD, MOST_HELD)
    return tuple(order[held:]), tuple(order[:held])


def block_site(bench: TrialBench, site: HealedSite) -> HealedSite:
    """Return the block around a site as a site of its own, in both models."""
    path = bench.blocks[site.path]
    old, new = (
        model if not path else module_at(model, path)
        for model in (bench.models.original, bench.models.model)
    )
    return replace(site, path=path, paths=(path,), old=old, new=new, learned=new, record=None)

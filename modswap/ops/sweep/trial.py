"""Try a new module at a site: verify, count, time, solve the closed form, put the old one back."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from modswap.core.asked.patterns import pattern_of
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.rule import Rule
from modswap.core.errors import ModswapError
from modswap.core.kept.receipt import record
from modswap.core.progress import silent
from modswap.core.swept.record import SiteTrial, SweptCost, TrialResult
from modswap.ops.apply import apply
from modswap.ops.heal.healer import Healer
from modswap.ops.heal.measures.passes import still
from modswap.ops.heal.passes import Models
from modswap.ops.heal.sites import HealedSite, sites_to_heal
from modswap.ops.heal.working import working_copy
from modswap.ops.outcomes import failure
from modswap.ops.run.describe import one_line
from modswap.ops.swap import Making, prepare, verified
from modswap.ops.sweep.bench import TrialBench, block_site
from modswap.ops.sweep.costs import added_latency, cost_of_model
from modswap.ops.sweep.recoverability import recovered
from modswap.seeds import seeded


def recipe_of(recipe: Recipe, trial: SiteTrial) -> Recipe:
    """Return the recipe that makes the swap of a trial alone."""
    rules = (rule_of(recipe, trial, (trial.site,)),)
    return recipe.model_copy(update={"replace": rules}).read_from(recipe.source)


def rule_of(recipe: Recipe, trial: SiteTrial, sites: Sequence[str]) -> Rule:
    """Return the rule that puts the module of a trial at some sites."""
    change = {
        "match": tuple(map(pattern_of, sites)),
        "exclude": (),
        "class_": (),
        "expect": None,
        "where": None,
        "with_": trial.module,
        "args": {**trial.base, **trial.args},
    }
    return recipe.replace[0].model_copy(update=change)


def run_trial(bench: TrialBench, trial: SiteTrial) -> TrialResult:
    """Return the result of a trial; one that does not hold has the reason. The model stays."""
    started = time.monotonic()
    bench.models.begin(trial.site)
    try:
        result = _tried(bench, trial)
    except ModswapError as error:
        first = error.all[0]
        at = "" if first.where in {"", trial.site} else f"{first.where}: "
        result = TrialResult(trial, reason=f"{at}{first.what}", fix=first.fix)
    except Exception as error:  # noqa: BLE001 - code of the new module may raise anything
        fix = f"mend {trial.module}, or leave it out"
        result = TrialResult(trial, reason=f"it raised {one_line(error)}", fix=fix)
    return replace(result, seconds=time.monotonic() - started)


def _tried(bench: TrialBench, trial: SiteTrial) -> TrialResult:
    models = bench.models
    with swapped(bench, trial) as site:
        counted = cost_of_model(models.model, bench.case, timed=False)
        latency = added_latency(site.old, site.new, bench.given[trial.site])
        block = block_site(bench, site)
        with still(models.original, models.model), seeded(bench.wishes.request.seed):
            parts = bench.learn, bench.held
            found = recovered(models, site, block, parts, bench.inherit)
    before = bench.before
    added = SweptCost(
        counted.params - before.params,
        counted.flops - before.flops,
        counted.memory - before.memory,
        latency,
    )
    if not found.how:
        reason = "its outputs are not finite, or of another shape"
        return TrialResult(trial, added, reason=reason, block=block.path)
    return TrialResult(
        trial,
        added,
        found.error,
        found.at_site,
        block.path,
        found.how,
        at_block=found.at_block,
    )


@contextmanager
def swapped(bench: TrialBench, trial: SiteTrial) -> Iterator[HealedSite]:
    """Swap a site of the model for a block, verified by its passes; the old module comes back.

    Raises:
        ModswapError: If the swap does not hold.
    """
    models, recipe = bench.models, recipe_of(bench.wishes.recipe, trial)
    making = Making(starts=bench.wishes.starts())
    prepared = prepare(models.model, recipe, (bench.case.call,), making=making)
    with verified(models.model, prepared, silent) as standing:
        if not standing.verdict.ok:
            raise failure(standing.verdict)
    olds = [(built.paths, standing.old[built.sites[0].path]) for built in prepared.built]
    try:
        records = [record(built.paths, built.blueprint) for built in prepared.built]
        (site,) = sites_to_heal(models.original, models.model, records)
        yield site
    finally:
        apply(models.model, olds)
        prepared.close()


def heal_trial(bench: TrialBench, result: TrialResult) -> TrialResult:
    """Return the result of a trial with the agreement of the model after a healing."""
    started = time.monotonic()
    models, request = bench.models, bench.wishes.request
    with swapped(bench, result.trial) as site:
        healed = working_copy(models.model, (site.learned,), request)
        made = sites_to_heal(models.original, healed, (site.record,) if site.record else ())
        pair = Models(models.original, healed, models.samples, models.size)
        healer = Healer(pair, made, request, bench.inherit, bench.wishes.progress)
        found = healer.run().healing
    seconds = time.monotonic() - started
    return replace(
        result,
        healed=found.after,
        healing_seconds=seconds,
        unhealed=found.before,
        stages=found.stages,
        goal=found.goal,
    )

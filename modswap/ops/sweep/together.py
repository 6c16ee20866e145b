"""The chosen trials of a sweep together: their recipe, and the cost of the whole model."""

from collections.abc import Sequence
from dataclasses import replace

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.rule import Rule
from modswap.core.errors import ModswapError
from modswap.core.progress import silent
from modswap.core.swept.choice import ChoiceRequest, choose
from modswap.core.swept.record import SiteTrial, SweepChoice, SweepResult
from modswap.io.recipe.reader import write_recipe
from modswap.ops.apply import apply
from modswap.ops.outcomes import failure
from modswap.ops.run.inputs import entries_of
from modswap.ops.swap import Making, prepare, verified
from modswap.ops.sweep.bench import TrialBench
from modswap.ops.sweep.costs import cost_of_model
from modswap.ops.sweep.trial import rule_of


def recipe_of_choice(bench: TrialBench, choice: SweepChoice) -> Recipe:
    """Return the recipe of all chosen trials, a rule for each module with its options."""
    recipe = bench.wishes.recipe
    alike: dict[str, list[SiteTrial]] = {}
    for one in choice.results:
        alike.setdefault(replace(one.trial, site="").key, []).append(one.trial)
    change = {
        "replace": tuple(_rule(recipe, trials) for trials in alike.values()),
        "inputs": entries_of((bench.case.call,)),
    }
    return recipe.model_copy(update=change).read_from(recipe.source)


def _rule(recipe: Recipe, trials: Sequence[SiteTrial]) -> Rule:
    rule = rule_of(recipe, trials[0], [one.site for one in trials])
    return rule.model_copy(update={"expect": len(trials)})


def measured_together(bench: TrialBench, choice: SweepChoice, recipe: Recipe) -> SweepChoice:
    """Return a choice with the cost of the model with all of it, latency timed too.

    Raises:
        ModswapError: If the swaps do not hold together.
    """
    model = bench.models.model
    making = Making(starts=bench.wishes.starts())
    prepared = prepare(model, recipe, (bench.case.call,), making=making)
    with verified(model, prepared, silent) as standing:
        if not standing.verdict.ok:
            raise failure(standing.verdict)
    try:
        cost = cost_of_model(model, bench.case, timed=True)
    finally:
        apply(model, [(one.paths, standing.old[one.sites[0].path]) for one in prepared.built])
    return replace(choice, together=cost)


def found_with_choice(
    found: SweepResult, bench: TrialBench, request: ChoiceRequest | None
) -> SweepResult:
    """Return a sweep with the choice among its trials, or with the error that there is none."""
    if request is None or len(found.results) < found.planned or found.error is not None:
        return found
    try:
        choice = choose(found.before, found.results, request)
        recipe = recipe_of_choice(bench, choice)
        found = replace(found, choice=choice, recipe=write_recipe(recipe))
        if found.interrupted:  # while the best trials were healed
            return found
        bench.wishes.progress("measuring the chosen trials together")
        return replace(found, choice=measured_together(bench, choice, recipe))
    except ModswapError as error:
        return replace(found, error=error)

"""`modswap.sweep`: new modules at every site of a model in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn

from modswap.core.asked.healing import HealingRequest
from modswap.core.errors import UsageError
from modswap.core.swept.choice import (
    Budgets,
    ChoiceRequest,
    amount_of,
    count_of,
    refuse_too_many,
)
from modswap.core.swept.record import SweepResult, TrialResult
from modswap.core.words.python_spelling import for_python
from modswap.ops.first_input.find import find_for
from modswap.ops.heal.data.taker import Taker
from modswap.ops.rule_call import Inputs, recipe_of_call
from modswap.ops.run.inputs import calls_of
from modswap.ops.sweep.bench import SweepWishes, bench_of
from modswap.ops.sweep.sweep import run_trials, summed_up
from modswap.ops.sweep.together import found_with_choice

_BUDGETS = {f"max_{one.name}": one.name for one in fields(Budgets)}
_SAMPLES = 512


@for_python
def sweep(
    model: nn.Module,
    *,
    match: str | Sequence[str],
    with_: str | Sequence[str],
    data: Any,
    grid: Mapping[str, Sequence[Any]] | None = None,
    **more: Any,
) -> SweepResult:
    """Try new modules at every site, one at a time: what each costs, and what it recovers.

    Args:
        model: The model, which stays as it is.
        match: Patterns of the modules to replace.
        with_: The new modules, names of the catalogue or `package.module:Class`.
        data: Inputs to learn from, as `heal` takes them.
        grid: Options of the new modules, each with its values to try.
        more: `args` (options with one value), `exclude`, `class_`, `adapt` and `start` of the
            rule; `inputs` as in `replace`; `choose` (3 or "3+") with `max_flops`, `max_params` and
            `max_latency`; `samples`, `seed`, `batch`, `device`, `size`, `mean` and `std`.

    Returns:
        The sweep: `ranked` are the trials that hold, the smallest error first; `choice` are the
        chosen ones, and `recipe` is their recipe.

    Raises:
        ModswapError: If the rule or the data do not fit the model.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        >>> data = [torch.randn(64, 3, 8, 8)]
        >>> found = modswap.sweep(net, match="1", with_=["ACmix", "ECA"], data=data)
        >>> [one.trial.module for one in found.ranked]
        ['ACmix', 'ECA']
    """
    modules = (with_,) if isinstance(with_, str) else tuple(with_)
    choice = _choice_of(more)
    inputs: Inputs = more.pop("inputs", ())
    wishes = {one.name: more.pop(one.name) for one in fields(HealingRequest) if one.name in more}
    rule = {"match": match, "with_": modules[0] if modules else None, **more}
    recipe = recipe_of_call(rule, inputs)
    call = calls_of(recipe.inputs)[0] if inputs else find_for(model, "inputs").calls[0]
    request = HealingRequest(**{"samples": _SAMPLES, **wishes})
    bench = bench_of(Taker(model, call), SweepWishes(recipe, data, request, modules, grid or {}))
    refuse_too_many(choice, len(bench.sites))
    trials = bench.trials()
    done: dict[str, TrialResult] = {}

    def take(result: TrialResult) -> None:
        done[result.trial.key] = result

    run_trials(bench, trials, done, take)
    return found_with_choice(summed_up(bench, trials, done), bench, choice)


def _choice_of(more: dict[str, Any]) -> ChoiceRequest | None:
    """Take the wishes about a choice out of others; None for no choice.

    Raises:
        UsageError: If there is a budget, and nothing is to be chosen.
    """
    given = {name: more.pop(name) for name in tuple(more) if name in _BUDGETS}
    budgets = {
        _BUDGETS[name]: amount_of(amount, name) if isinstance(amount, str) else amount
        for name, amount in given.items()
    }
    asked = more.pop("choose", None)
    if asked is None:
        if budgets:
            raise UsageError("nothing is to be chosen", f"max_{min(budgets)}", "add choose=3")
        return None
    return ChoiceRequest(*count_of(str(asked)), Budgets(**budgets))

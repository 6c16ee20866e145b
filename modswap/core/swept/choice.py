"""The choice among the trials of a sweep: sites and options with the least sum of errors."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from modswap.core.decided.cost import count_text
from modswap.core.errors import ShapeError, UsageError
from modswap.core.swept.record import SweepChoice, SweptCost, TrialResult
from modswap.core.swept.search import SearchOption, SearchProblem, search

_ERROR_UNITS = 1 << 40  # errors and milliseconds become whole numbers, so that sums are exact
_TIME_UNITS = 1_000_000
_OPTIONS = {"flops": "--max-flops", "params": "--max-params", "latency": "--max-latency"}
_STEPS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most that the whole model may have or take; None for no bound."""

    flops: int | None = None
    params: int | None = None
    latency: float | None = None  # milliseconds of a pass

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of those that are set."""
        return tuple(one.name for one in fields(self) if getattr(self, one.name) is not None)


@dataclass(frozen=True, slots=True)
class ChoiceRequest:
    """The number of sites to choose, whether more may be chosen, and the budgets."""

    count: int
    more: bool = False
    budgets: Budgets = Budgets()

    @property
    def words(self) -> str:
        """Return the number as the user writes it, `3` or `3+`."""
        return f"{self.count}{'+' if self.more else ''}"


def refuse_too_many(request: ChoiceRequest | None, sites: int) -> None:
    """Refuse a choice of more sites than there are.

    Raises:
        UsageError: If there are fewer.
    """
    if request is not None and request.count > sites:
        what = f"{request.count} sites are to be chosen, and the rule selects {sites}"
        raise UsageError(what, "--choose", f"choose {sites} or fewer, or select more sites")


def count_of(text: str) -> tuple[int, bool]:
    """Return the number of a text, `3`, and whether more may be chosen, `3+`.

    Raises:
        UsageError: If it is no such text.
    """
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*(\+?)\s*", text)
    if found is None or int(found[1]) < 1:
        fix = "write 3, or 3+ for 3 or more"
        raise UsageError(f"{text!r:.40} is no number of sites", "--choose", fix)
    return int(found[1]), bool(found[2])


def amount_of(text: str, option: str) -> int:
    """Return the number of a text such as `4.1G` or `250M`.

    Raises:
        UsageError: If it is no such text.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kKmMgGtT]?)\s*", text)
    if found is None:
        raise UsageError(f"{text!r:.40} is no number", option, "write 250M or 4.1G")
    return round(float(found[1]) * _STEPS[found[2].lower()])


def choose(
    before: SweptCost, results: Sequence[TrialResult], request: ChoiceRequest
) -> SweepChoice:
    """Return the trials with the least sum of errors, at most one of a site.

    Raises:
        ShapeError: If too few sites have a trial that holds, or no choice keeps the budgets.
    """
    sites: dict[str, list[TrialResult]] = {}
    for one in results:
        sites.setdefault(one.trial.site, []).extend([one] if one.holds else [])
    names = request.budgets.names
    problem = SearchProblem(
        tuple(tuple(_option(one, names) for one in trials) for trials in sites.values()),
        request.count,
        request.more,
        tuple(_room(name, before, request.budgets) for name in names),
    )
    found = search(problem)
    if found is None:
        raise _impossible(problem, before, request)
    listed = list(sites.values())
    chosen = tuple(listed[site][option] for site, option in found.options)
    return SweepChoice(
        request.words, chosen, sum(one.error or 0.0 for one in chosen), _total(before, chosen)
    )


def _option(one: TrialResult, names: Sequence[str]) -> SearchOption:
    added = tuple(_whole(name, getattr(one.added, name)) for name in names)
    return SearchOption(round((one.error or 0.0) * _ERROR_UNITS), added)


def _room(name: str, before: SweptCost, budgets: Budgets) -> int:
    return _whole(name, getattr(budgets, name)) - _whole(name, getattr(before, name))


def _whole(name: str, value: float) -> int:
    return round(value * _TIME_UNITS) if name == "latency" else round(value)


def _total(before: SweptCost, chosen: Sequence[TrialResult]) -> SweptCost:
    """Return the cost of the model with all trials, each amount as the sum over the sites."""
    added = [one.added for one in chosen if one.added is not None]
    return SweptCost(
        before.params + sum(one.params for one in added),
        before.flops + sum(one.flops for one in added),
        before.memory + max((one.memory for one in added), default=0),
        before.latency + sum(one.latency for one in added),
    )


def _impossible(problem: SearchProblem, before: SweptCost, request: ChoiceRequest) -> ShapeError:
    """Return the error of a choice that there is not."""
    holding = sum(map(bool, problem.sites))
    if holding < request.count:
        what = f"{holding} of {len(problem.sites)} sites have a trial that holds"
        return ShapeError(f"{what}, {request.words} are asked for", "--choose", "ask for fewer")
    names = request.budgets.names
    for number, name in enumerate(names):
        least = problem.least(number)
        if least is not None and least > problem.budgets[number]:
            total = least + _whole(name, getattr(before, name))
            shown, most = (
                _said(name, value)
                for value in (total, _whole(name, getattr(request.budgets, name)))
            )
            what = f"{request.words} of the sites take {shown} or more, {most} are allowed"
            return ShapeError(what, _OPTIONS[name], f"allow {shown}, or ask for fewer sites")
    what = f"no choice of {request.words} sites keeps all budgets at once"
    return ShapeError(f"{what}: {', '.join(names)}", "--choose", "allow more of one of them")


def _said(name: str, value: int) -> str:
    if name == "latency":
        return f"{value / _TIME_UNITS:.3f} ms"
    words = {"flops": "FLOPs", "params": "parameters"}[name]
    return f"{value:,} {words} ({count_text(value)})"

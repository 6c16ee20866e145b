"""Choose sites and options with the least sum of errors under budgets, exactly.

Every number is a whole one, so that sums are exact. The search goes from site to site and keeps
partial choices that no other one beats in number, error and costs. A bound by Lagrange multipliers,
exact too, drops those that cannot become better than the best choice that is known; a quick search
of few partial choices finds that one first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from operator import mul, truediv
from typing import Any, NamedTuple

Amounts = tuple[int, ...]

_STEPS = 80  # by which multipliers are improved
_SCALE = 1 << 20  # multipliers are whole multiples of its inverse
_BEAMS = (16, 128)  # partial choices of each number that the quick searches keep


class SearchOption(NamedTuple):
    """An option of a site: its error, and what it adds to each amount that has a budget."""

    error: int
    amounts: Amounts = ()


class BestChoice(NamedTuple):
    """The best choice: the sum of its errors, and the option of each chosen site."""

    error: int
    options: tuple[tuple[int, int], ...]  # number of the site, number of its option


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """Sites with their options, of which some are to be chosen.

    Args:
        sites: The options of each site.
        count: The number of sites to choose.
        more: Whether more sites may be chosen.
        budgets: The most of each amount that all chosen options add; may be negative.
    """

    sites: tuple[tuple[SearchOption, ...], ...]
    count: int
    more: bool = False
    budgets: Amounts = ()

    def least(self, amount: int) -> int | None:
        """Return the least of an amount that a choice adds; None if there are too few sites."""
        values = [[one.amounts[amount] for one in site] for site in self.sites if site]
        if len(values) < self.count:
            return None
        return _sums(sorted(map(min, values)), self.more)[self.count]


class _Partial(NamedTuple):
    """A partial choice; `picks` are the option before it, the site and the option."""

    error: int
    amounts: Amounts
    picks: Any


class _NoneBetterError(Exception):
    """There is no choice better than the one that is known."""


def search(problem: SearchProblem) -> BestChoice | None:
    """Return the choice with the least sum of errors; None if none keeps the budgets."""
    places = [
        _OpenSite(number, tuple(_undominated(site)))
        for number, site in enumerate(problem.sites)
        if site
    ]
    if len(places) < problem.count:
        return None
    best = _searched(problem, places)
    return None if best is None else BestChoice(best.error, tuple(sorted(_unrolled(best.picks))))


def _searched(problem: SearchProblem, places: "list[_OpenSite]") -> "_Partial | None":
    """Return the best choice: quick searches first, then that of all that may be better."""
    prices, best = _prices(problem, places, None), None
    for most in (*_BEAMS, None):
        best = _SiteSearch(problem, places, prices).best(best, most) or best
        if best is not None and most is not None:
            prices = _prices(problem, places, best.error)
            try:
                places = list(_open(problem, places, prices, best))
            except _NoneBetterError:
                break
    return best


@dataclass(frozen=True, slots=True)
class _OpenSite:
    """A site in a search: its number, its options with theirs, and whether it may be left out."""

    number: int
    options: tuple[tuple[int, SearchOption], ...]
    free: bool = True

    def least(self, measure: Callable[[SearchOption], int]) -> int:
        """Return the least of a measure over the options."""
        return min(measure(one) for _, one in self.options)


def _open(
    problem: SearchProblem, places: Sequence[_OpenSite], prices: "_Prices", known: "_Partial | None"
) -> Iterator[_OpenSite]:
    """Yield the sites with the options that a choice better than the known one can have."""
    room = prices.sum(problem.budgets)
    limit = inf if known is None else (known.error - 1) * _SCALE + room
    worth = [place.least(prices.of) for place in places]
    for at, place in enumerate(places):
        others = _sums(sorted(worth[:at] + worth[at + 1 :]), problem.more)
        rest = others[max(problem.count - 1, 0)]
        kept = tuple(one for one in place.options if prices.of(one[1]) + rest <= limit)
        enough = len(others) > problem.count and others[problem.count] <= limit
        if kept:
            yield _OpenSite(place.number, kept, enough)
        elif not enough:
            raise _NoneBetterError


def _unrolled(picks: Any) -> Iterator[tuple[int, int]]:
    while picks is not None:
        picks, number, option = picks
        yield number, option


def _undominated(site: Sequence[SearchOption]) -> list[tuple[int, SearchOption]]:
    """Return the options of a site that no other one beats in all, with their numbers."""
    kept: list[tuple[int, SearchOption]] = []
    for number, one in sorted(enumerate(site), key=lambda each: (each[1], each[0])):
        if not any(_beats(other.amounts, one.amounts) for _, other in kept):
            kept.append((number, one))
    return kept


def _beats(one: Amounts, other: Amounts) -> bool:
    return all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True)
class _Prices:
    """Multipliers: what a unit of each amount costs, in units of error by `_SCALE`."""

    each: Amounts

    def of(self, one: "SearchOption | _Partial") -> int:
        """Return the error with the price of the amounts."""
        return one.error * _SCALE + self.sum(one.amounts)

    def sum(self, amounts: Amounts) -> int:
        """Return the price of some amounts."""
        return sum(price * amount for price, amount in zip(self.each, amounts, strict=True))


def _prices(problem: SearchProblem, places: Sequence[_OpenSite], known: int | None) -> _Prices:
    """Return multipliers with a high bound, by steps along the subgradient of the bound.

    The steps are as long as the distance to the error of a choice that is known, where one is.
    """
    ones = [one for place in places for _, one in place.options]
    units = _units(ones, len(problem.budgets))
    top = max(one.error for one in ones) or 1
    now = [0.0] * len(units)
    best, bound = _Prices((0,) * len(units)), -inf
    for step in range(1, _STEPS + 1 if units else 1):
        prices = _Prices(tuple(map(_price, now, units)))
        value, over = _relaxed(problem, places, prices)
        if value > bound:
            best, bound = prices, float(value)
        slopes = list(map(truediv, over, units))
        length = sum(map(mul, slopes, slopes)) or 1.0
        far = 2.0 * top * length**0.5 / step
        left = far if known is None else known - value / _SCALE
        pace = min(far, left) / length
        now = [max(x + pace * s, 0.0) for x, s in zip(now, slopes, strict=True)]
    return best


def _units(ones: Sequence[SearchOption], count: int) -> list[int]:
    """Return the largest size of each amount, at least 1."""
    return [max(abs(one.amounts[d]) for one in ones) or 1 for d in range(count)]


def _price(multiplier: float, unit: int) -> int:
    return round(multiplier * _SCALE / unit)


def _relaxed(
    problem: SearchProblem, places: Sequence[_OpenSite], prices: _Prices
) -> tuple[int, list[int]]:
    """Return the bound of multipliers, and how far its choice is beyond each budget."""
    cheapest = sorted(
        (min((prices.of(one), one) for _, one in place.options) for place in places),
        key=lambda each: each[0],
    )
    sums = list(accumulate((price for price, _ in cheapest), initial=0))
    last = len(places) if problem.more else problem.count
    number = min(range(problem.count, last + 1), key=sums.__getitem__)
    used = [
        sum(one.amounts[d] for _, one in cheapest[:number]) for d in range(len(problem.budgets))
    ]
    over = [mine - most for mine, most in zip(used, problem.budgets, strict=True)]
    return sums[number] - prices.sum(problem.budgets), over


def _sums(values: Sequence[int], more: bool) -> list[int]:  # noqa: FBT001 - a fact of the problem
    """Return for each number the sum of the smallest values, of that many or of more as well."""
    sums = list(accumulate(values, initial=0))
    if more:
        for place in range(len(sums) - 2, -1, -1):
            sums[place] = min(sums[place], sums[place + 1])
    return sums


class _SiteSearch:
    """A search over sites, those with the lowest prices first.

    Args:
        problem: The problem.
        places: The sites.
        prices: Multipliers.
    """

    def __init__(
        self, problem: SearchProblem, places: Sequence[_OpenSite], prices: _Prices
    ) -> None:
        self.problem = problem
        self.places = sorted(places, key=lambda place: place.free and place.least(prices.of))
        self.prices = prices
        self.room = prices.sum(problem.budgets)
        self.priced = self._rests(prices.of)
        self.errors = self._rests(lambda one: one.error)
        each = range(len(problem.budgets))
        self.amounts = [self._rests(lambda one, d=d: one.amounts[d]) for d in each]  # type: ignore[misc] # bound here

    def _rests(self, measure: Callable[[SearchOption], int]) -> list[list[int]]:
        """Return the least sums of a measure over the sites from each place on, by their number."""
        least = [place.least(measure) for place in self.places]
        return [_sums(sorted(least[at:]), self.problem.more) for at in range(len(least) + 1)]

    def best(self, known: _Partial | None, most: int | None) -> _Partial | None:
        """Return a choice better than the one that is known, the best one unless `most` is given.

        Args:
            known: A choice.
            most: The most partial choices of each number to keep; None for all that may lead on.
        """
        limit = None if known is None else known.error - 1
        labels = {0: [_Partial(0, (0,) * len(self.problem.budgets), None)]}
        for at, place in enumerate(self.places):
            grown: dict[int, list[_Partial]] = {}
            for number, label in self._grown(labels, place):
                if self._leads_on(label, number, at + 1, limit):
                    grown.setdefault(number, []).append(label)
            labels = {number: self._kept(some, most) for number, some in grown.items()}
        return min(labels.get(self.problem.count, ()), default=None, key=lambda one: one.error)

    def _grown(
        self, labels: dict[int, list[_Partial]], place: _OpenSite
    ) -> Iterator[tuple[int, _Partial]]:
        """Yield every partial choice without and with each option of a site, with its number."""
        count, more = self.problem.count, self.problem.more
        for number, some in labels.items():
            longer = number + 1 if number < count else number
            for label in some:
                if place.free:
                    yield number, label
                if number < count or more:
                    for option, one in place.options:
                        amounts = tuple(map(sum, zip(label.amounts, one.amounts, strict=True)))
                        picks = (label.picks, place.number, option)
                        yield longer, _Partial(label.error + one.error, amounts, picks)

    def _leads_on(self, label: _Partial, number: int, place: int, limit: int | None) -> bool:
        """Return whether a partial choice can become a whole one that is good enough."""
        need = self.problem.count - number
        if need > len(self.places) - place:
            return False
        for used, rest, most in zip(label.amounts, self.amounts, self.problem.budgets, strict=True):
            if used + rest[place][need] > most:
                return False
        if limit is None:
            return True
        if label.error + self.errors[place][need] > limit:
            return False
        return self.prices.of(label) + self.priced[place][need] - self.room <= limit * _SCALE

    def _kept(self, labels: list[_Partial], most: int | None) -> list[_Partial]:
        """Return the partial choices of one number that no other one beats, or the best of them."""
        if most is not None and len(labels) > most:
            labels = sorted(labels, key=self.prices.of)[:most]
        return list(_front(sorted(labels, key=lambda one: one[:2])))


def _front(labels: Iterable[_Partial]) -> Iterator[_Partial]:
    """Yield the labels, in the order of their errors, whose amounts no earlier one beats."""
    kept: list[Amounts] = []
    for label in labels:
        if not any(_beats(one, label.amounts) for one in kept):
            kept.append(label.amounts)
            yield label

"""Fit a rule for the sizes of one axis to sizes that were tried."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from math import gcd

MAX_MODULUS = 1024
MAX_RUNS = 2  # of remainders in one rule


@dataclass(frozen=True, slots=True)
class AxisRule:
    """Sizes of one axis: remainders by a modulus, between two bounds.

    Args:
        modulus: Divisor of the remainders; 1 where all sizes between the bounds are taken.
        residues: The remainders that are taken, ascending.
        low: Smallest size that is taken; None if nothing smaller of these remainders was refused.
        high: Largest size that is taken; None if nothing larger of these remainders was refused.
        one: Whether 1 is taken besides, as where one pixel is broadcast to many.
    """

    modulus: int = 1
    residues: tuple[int, ...] = (0,)
    low: int | None = None
    high: int | None = None
    one: bool = False

    def takes(self, size: int) -> bool:
        """Return whether the rule accepts a size."""
        if self.one and size == 1:
            return True
        above = self.low is None or size >= self.low
        below = self.high is None or size <= self.high
        return above and below and size % self.modulus in self.residues

    @property
    def single(self) -> bool:
        """Return whether the rule accepts a single size, apart from pixels that strides drop."""
        if self.low is None or self.high is None:
            return False
        return self.modulus == 1 and self.high - self.low < max(1, self.low // 2)

    def __str__(self) -> str:
        parts = [self._remainders(), self._bounds(), "or 1" if self.one else ""]
        parts = [part for part in parts if part]
        return ", ".join(parts) or "any"

    def _remainders(self) -> str:
        if self.modulus == 1:
            return ""
        if self.residues == (0,):
            return f"divisible by {self.modulus}"
        if (self.modulus, self.residues) == (2, (1,)):
            return "odd"
        if len(self.residues) == 1:
            return f"{self.residues[0]} more than a multiple of {self.modulus}"
        return f"with a remainder of {_listed(self.residues)} by {self.modulus}"

    def _bounds(self) -> str:
        if self.low is not None and self.high is not None:
            one = self.low == self.high
            return f"exactly {self.low}" if one else f"from {self.low} to {self.high}"
        if self.low is not None:
            return f"at least {self.low}"
        return "" if self.high is None else f"at most {self.high}"


ANY = AxisRule()


def fit_axis(good: Collection[int], bad: Collection[int]) -> AxisRule | None:
    """Return the simplest rule that takes all of some sizes and none of some others.

    Bounds alone come first, then one remainder, then several. A rule of several
    remainders needs trials of every remainder, over two whole periods. At least one size is taken.
    """
    for fit in (partial(_bounded, 1), _stepped, _periodic):
        rule = fit(good, bad) or _besides_one(fit, good, bad)
        if rule is not None:
            return rule
    return None


Fit = Callable[[Collection[int], Collection[int]], AxisRule | None]


def _besides_one(fit: Fit, good: Collection[int], bad: Collection[int]) -> AxisRule | None:
    others = [size for size in good if size > 1]
    rule = fit(others, bad) if 0 < len(others) < len(good) else None
    return None if rule is None else replace(rule, one=True)


def _stepped(good: Collection[int], bad: Collection[int]) -> AxisRule | None:
    """Return the rule with the smallest modulus that leaves one remainder for all taken sizes."""
    first, *others = sorted(good)
    step = gcd(*(size - first for size in others))
    found = (_bounded(modulus, good, bad) for modulus in divisors(step)[1:])
    return next((rule for rule in found if rule is not None), None)


def _periodic(good: Collection[int], bad: Collection[int]) -> AxisRule | None:
    span = max(good) - min(good)
    known = (*good, *bad)
    most = min(span, (max(known) - min(known)) // 2, MAX_MODULUS)
    for modulus in range(2, most + 1):
        rule = _bounded(modulus, good, bad)
        if rule is None or len({size % modulus for size in known}) < modulus:
            continue
        if len(_runs(rule.residues)) > MAX_RUNS:
            return None
        if (rule.low, rule.high) == (None, None) or 2 * modulus <= span:
            return rule
    return None


def _bounded(modulus: int, good: Collection[int], bad: Collection[int]) -> AxisRule | None:
    """Return the rule of a modulus with the bounds that it needs; None if no bounds suffice."""
    residues = tuple(sorted({size % modulus for size in good}))
    least, most = min(good), max(good)
    against = [size for size in bad if size % modulus in residues]
    if any(least <= size <= most for size in against):
        return None
    low = least if min(against, default=least) < least else None
    high = most if max(against, default=most) > most else None
    return AxisRule(modulus, residues, low, high)


def divisors(number: int) -> list[int]:
    """Return the divisors of a number up to `MAX_MODULUS`, ascending; of 0 only 1."""
    return [d for d in range(1, min(number, MAX_MODULUS) + 1) if number % d == 0] or [1]


def _listed(numbers: Sequence[int]) -> str:
    """Return ascending numbers in words, neighbours as a range: 0, 3 to 6 or 13."""
    runs = _runs(numbers)
    words = [
        word
        for run in runs
        for word in (map(str, run) if len(run) < 3 else [f"{run[0]} to {run[-1]}"])
    ]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Return ascending numbers with neighbours together."""
    steps = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in run] for _, run in steps]

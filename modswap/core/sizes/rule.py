"""Fit a rule for the input sizes that a model takes, which explains every size that was tried."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import gcd

from modswap.core.sizes.one_axis import ANY, AxisRule, divisors, fit_axis
from modswap.core.sizes.two_axes import Coupling, Size, couplings

SHOWN_SIZES = 8
MIN_SIZES = 12  # that a rule rests on
FIXED = {"product", "broadcast"}
MIN_COUPLED_SIZES = 24  # that a rule for both sides at once rests on


@dataclass(frozen=True, slots=True)
class SizeRule:
    """A rule for the sizes (H, W) of an input, or for its length (L,)."""

    axes: tuple[AxisRule, ...]  # the rule of each axis alone
    coupling: Coupling | None = None  # the condition on both sides at once

    def takes(self, size: Size) -> bool:
        """Return whether the rule accepts a size."""
        apart = all(rule.takes(side) for rule, side in zip(self.axes, size, strict=True))
        return apart and (self.coupling is None or self.coupling.takes(size))

    @property
    def single(self) -> bool:
        """Return whether the rule accepts one size or area, apart from pixels that strides drop."""
        if self.coupling is not None and self.coupling.kind in FIXED:
            return True
        return all(rule.single for rule in self.axes)

    def __str__(self) -> str:
        apart = self._apart()
        if self.coupling is None:
            return apart
        if apart != "any":
            return f"{apart}, with {self.coupling}"
        return f"{self.coupling} alone" if self.coupling.kind in FIXED else str(self.coupling)

    def _apart(self) -> str:
        if set(self.axes) == {ANY}:
            return "any"
        names = ("H", "W") if len(self.axes) == 2 else ("L",)
        if len(set(self.axes)) == 1:
            return f"{' and '.join(names)} {self.axes[0]}"
        return " and ".join(f"{n} {rule}" for n, rule in zip(names, self.axes, strict=True))


def fit_rule(probes: Mapping[Size, bool], like: SizeRule | None = None) -> SizeRule | None:
    """Return the simplest rule that explains every size that was tried, or None.

    Fewer than `MIN_SIZES` make no rule.

    Args:
        probes: Sizes that were tried, (H, W) or (L,), and whether they were taken. The first one
            is where the others start from; it was taken.
        like: A rule of the same sizes, such as the original's; its axes are tried first beside a
            coupling.
    """
    good = [size for size, ok in probes.items() if ok]
    if len(probes) < MIN_SIZES or not next(iter(probes.values())):
        return None
    tied = len(good[0]) == 2 and len(probes) >= MIN_COUPLED_SIZES
    ties: Iterable[Coupling | None] = chain((None,), couplings(probes) if tied else ())
    first = () if like is None else like.axes
    found = (_fitted(probes, good, coupling, first) for coupling in ties)
    return next((rule for rule in found if rule is not None), None)


def _fitted(
    probes: Mapping[Size, bool],
    good: Sequence[Size],
    coupling: Coupling | None,
    like: tuple[AxisRule, ...] = (),
) -> SizeRule | None:
    """Return the rule with this coupling that explains every probe, or None."""
    bad = [s for s, ok in probes.items() if not ok and (coupling is None or coupling.takes(s))]
    taken = [frozenset(sides) for sides in zip(*good, strict=True)]
    candidates = _axes(taken, bad)
    if coupling is not None:
        candidates = [like, *_beside_coupling(taken, candidates)]
    for axes in candidates:
        rule = SizeRule(axes, coupling)
        if len(axes) == len(taken) and explains(rule, probes):
            return rule
    return None


def _axes(taken: Sequence[frozenset[int]], bad: Sequence[Size]) -> list[tuple[AxisRule, ...]]:
    """Return one rule for all axes, then a rule for each, where they can be fitted."""
    refused = [_to_blame(bad, taken, axis) for axis in range(len(taken))]
    # where both sides follow one rule, a square is refused for its side
    squares = frozenset(size[0] for size in bad if len({*size}) == 1)
    alike = fit_axis(frozenset().union(*taken), squares.union(*refused))
    apart = [fit_axis(*sides) for sides in zip(taken, refused, strict=True)]
    found = ((alike,) * len(taken), tuple(apart))
    return [tuple(axis for axis in axes if axis is not None) for axes in found]


def _beside_coupling(
    taken: Sequence[frozenset[int]], candidates: Sequence[tuple[AxisRule, ...]]
) -> list[tuple[AxisRule, ...]]:
    """Return the rules of axes that are tried beside a coupling."""
    # several remainders beside a coupling explain any probes
    plain = [axes for axes in candidates if all(len(axis.residues) == 1 for axis in axes)]
    # both sides change together, so that often neither alone is to blame
    steps = divisors(gcd(*chain.from_iterable(taken)))[1:]
    return plain + [(AxisRule(step),) * len(taken) for step in steps]


def _to_blame(bad: Sequence[Size], taken: Sequence[frozenset[int]], axis: int) -> frozenset[int]:
    """Return the sides of one axis that were refused where every other side is known to do."""
    return frozenset(
        size[axis]
        for size in bad
        if size[axis] not in taken[axis]
        and all(side in taken[i] for i, side in enumerate(size) if i != axis)
    )


def explains(rule: SizeRule, probes: Mapping[Size, bool]) -> bool:
    """Return whether a rule says of every size that was tried whether it was taken."""
    return all(rule.takes(size) is ok for size, ok in probes.items())


def in_words(rule: SizeRule | None, probes: Mapping[Size, bool]) -> str:
    """Return a rule of `fit_rule`, or a list of sizes that were seen to work where it is None."""
    if rule is not None:
        return str(rule)
    good = sorted(size for size, ok in probes.items() if ok)
    if len(good) in {0, len(probes)}:
        return f"{'all' if good else 'none'} of the sizes tried"
    listed = ", ".join(size_in_words(size) for size in good[:SHOWN_SIZES])
    more = ", …" if len(good) > SHOWN_SIZES else ""
    few = len(probes) < MIN_SIZES
    why = "too few were tried for a rule" if few else "no simple rule explains all that were tried"
    return f"sizes such as {listed}{more} ({why})"


def size_in_words(size: Size) -> str:
    """Return `224 x 224` for (224, 224)."""
    return " x ".join(map(str, size))

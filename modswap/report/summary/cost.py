"""The cost of a swap: parameters, FLOPs, memory and the distance of the outputs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modswap.core.decided.cost import count_text, size_text
from modswap.core.kept.outcome import Outcome

MAX_PERCENT = 1000  # a larger growth is a factor
# of the examination `cost`, by their names in reports; memory is the peak of a training pass
_MEASURED: tuple[tuple[str, str, Callable[[int], str]], ...] = (
    ("FLOPs", "flops", count_text),
    ("memory", "peak_training", size_text),
)


@dataclass(frozen=True, slots=True)
class CostChange:
    """A cost before and after the swap.

    Args:
        name: `parameters`, `FLOPs`, `memory` or `drift`.
        before: The cost before, in words; empty where there is none, as for `drift`.
        after: That after.
        rough: Both in few characters.
        change: The change in percent, as a factor, or `kept`; empty where it is not known.
    """

    name: str
    before: str
    after: str
    rough: str
    change: str = ""

    @property
    def full(self) -> str:
        """Return the numbers and the change: `parameters 1,200 → 900 (-25.0 %)`."""
        both = f"{self.before} → {self.after}" if self._moved else self.after
        return f"{self.name} {both}" + (f" ({self.change})" if self.change else "")

    @property
    def short(self) -> str:
        """Return the numbers alone: `parameters 1.2 k → 900`."""
        return f"{self.name} {self.rough}"

    @property
    def shortest(self) -> str:
        """Return the change alone, where it is known: `parameters -25.0 %`."""
        return f"{self.name} {self.change or self.rough}"

    @property
    def _moved(self) -> bool:
        return bool(self.before) and self.before != self.after


def costs_of(outcome: Outcome) -> tuple[CostChange, ...]:
    """Return the costs that are known, in the order of reports."""
    return tuple(_costs(outcome)) if outcome.sites else ()


def _costs(outcome: Outcome) -> Iterator[CostChange]:
    before, after = outcome.params_before, outcome.params_after
    if before or after:
        yield changed("parameters", (before, after), "{:,}".format, count_text)
    measured = _data(outcome, "cost")
    for name, key, said in _MEASURED:
        if "before" in measured:
            numbers = (measured["before"][key], measured["after"][key])
            yield changed(name, numbers, said, said)
    moved = _data(outcome, "drift")
    if "relative" in moved:
        far = moved["relative"]
        said_far = "infinite" if far is None else f"{far:.2g}"
        yield CostChange("drift", "", said_far, said_far)


def changed(
    name: str, numbers: tuple[int, int], exact: Callable[[int], str], rough: Callable[[int], str]
) -> CostChange:
    """Return the change of a number, in exact and in rough words."""
    before, after = numbers
    both = rough(after) if before == after else f"{rough(before)} → {rough(after)}"
    return CostChange(name, exact(before), exact(after), both, _change(before, after))


def _change(before: int, after: int) -> str:
    if before == after:
        return "kept"
    if not before:
        return ""
    percent = 100 * (after - before) / before
    return f"{percent:+.1f} %" if percent < MAX_PERCENT else f"×{after / before:.0f}"


def _data(outcome: Outcome, check: str) -> Mapping[str, Any]:
    """Return the numbers of an examination of the whole model; empty where it has none."""
    found = outcome.verdict.findings if outcome.verdict is not None else ()
    whole = (f.data for f in found if f.check == check and not f.path and f.status == "passed")
    return next(whole, {})

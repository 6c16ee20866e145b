"""Comparisons such as `>=128` or `64..256` that a rule's `where` may hold."""

import operator
import re
from collections.abc import Callable

_DIGITS = "[0-9]{1,18}"
# of a comparison, for the JSON Schema
COMPARISON = rf"^\s*(?:(?:[<>=!]=|[<>])?\s*{_DIGITS}|{_DIGITS}\s*\.\.\s*{_DIGITS})\s*$"

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "": operator.eq,
}
_ONE = re.compile(r"(>=|<=|==|!=|>|<|)\s*(\d{1,18})")
_RANGE = re.compile(r"(\d{1,18})\s*\.\.\s*(\d{1,18})")


def holds(condition: str | int, value: int | None) -> bool:
    """Return whether a value meets a condition; an unobserved value (None) meets none.

    A condition is a number, a comparison such as `>=128`, or a range such as `64..256`, both ends
    included.

    Raises:
        ValueError: If the condition is no comparison.
    """
    check = _parse(condition)
    return value is not None and check(value)


def _parse(condition: str | int) -> Callable[[int], bool]:
    text = str(condition).strip()
    found = _RANGE.fullmatch(text)
    if found:
        low, high = int(found[1]), int(found[2])
        return lambda value: low <= value <= high
    found = _ONE.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a comparison such as '>=128' or '64..256', got {text!r:.60}")
    compare, bound = _COMPARE[found[1]], int(found[2])
    return lambda value: compare(value, bound)

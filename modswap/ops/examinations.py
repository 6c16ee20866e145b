"""The examinations of a swap: one table."""

from modswap.ops.examine import Examination

EXAMINATIONS: tuple[Examination, ...] = ()
NAMES = tuple(row.name for row in EXAMINATIONS)

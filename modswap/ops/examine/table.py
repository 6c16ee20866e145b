"""The examinations of a swap: one table, in the order in which they are made."""

from modswap.ops.examine.alone.sites import rows
from modswap.ops.examine.bench import Examination
from modswap.ops.examine.cost import costs
from modswap.ops.examine.export import exports
from modswap.ops.examine.limits import limits
from modswap.ops.examine.matrix import matrix
from modswap.ops.examine.reached import reached
from modswap.ops.examine.sizes import SIZES
from modswap.ops.examine.survival import survival

EXAMINATIONS: tuple[Examination, ...] = (
    Examination("matrix", matrix),
    Examination("reached", reached),
    *rows(),
    SIZES,
    Examination("cost", costs),
    Examination("limits", limits),
    Examination("export", exports),
    Examination("survival", survival),
)

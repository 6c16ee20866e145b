"""The examinations of a swap: one table, in the order in which they are made."""

from modswap.ops.alone import rows
from modswap.ops.cost import costs
from modswap.ops.examine import Examination
from modswap.ops.exports import exports
from modswap.ops.limits import limits
from modswap.ops.matrix import matrix
from modswap.ops.reached import reached
from modswap.ops.sizes import SIZES
from modswap.ops.survival import survival

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

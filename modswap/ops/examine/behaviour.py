"""How a new module behaves alone: gradients, samples, chance, what it writes."""

from collections.abc import Callable, Mapping

from modswap.core.finding import CheckName, Finding
from modswap.ops.examine.alone.pair import Rehearsal
from modswap.ops.examine.dependence import dependence
from modswap.ops.examine.determinism import determinism
from modswap.ops.examine.finite import finite
from modswap.ops.examine.gradients import gradients
from modswap.ops.examine.independence import independence
from modswap.ops.examine.untouched import untouched

CHECKS: Mapping[CheckName, Callable[[Rehearsal], Finding]] = {
    "gradients": gradients,
    "dependence": dependence,
    "independence": independence,
    "determinism": determinism,
    "finite": finite,
    "untouched": untouched,
}

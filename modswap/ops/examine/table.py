"""The examinations of a swap: one table, in the order in which they are made."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the bench imports torch; recipes and help do not need it
    from collections.abc import Callable, Iterable

    from modswap.core.finding import Finding
    from modswap.ops.examine.bench import Bench

Kind = Literal["passes", "pairs", "measurement", "file"]


@dataclass(frozen=True, slots=True)
class Examination:
    """A row: an examination with its name, kind and sentence for reports and recipes.

    Args:
        name: Name in reports and in `verify.skip` of a recipe.
        kind: `passes` runs the whole model; `pairs` runs the old and the new module of each site
            alone; `measurement` counts or times; `file` writes and reads the model.
        about: The fact that holds where the examination passes, as a sentence for reports, without
            capital and full stop.
        function: `package.module:function`, which takes a `Bench` and yields at least one finding
            for each site, or for the model; empty for the function `name` in the file `name` of
            this folder.
    """

    name: str
    kind: Kind
    about: str
    function: str = ""

    def load(self) -> "Callable[[Bench], Iterable[Finding]]":
        """Return the function, its module imported."""
        module, _, name = (self.function or f"{__package__}.{self.name}:{self.name}").partition(":")
        function: Any = getattr(import_module(module), name)
        return function  # type: ignore[no-any-return] # known by its name only


EXAMINATIONS: tuple[Examination, ...] = (
    Examination(
        "matrix", "passes", "shapes hold at other batch sizes, precisions and memory formats"
    ),
    Examination(
        "reached",
        "passes",
        "every new module is run as often as the old one was, also without hooks",
    ),
    Examination(
        "gradients",
        "pairs",
        "gradients reach the new parameters and the modules before them, and are finite",
    ),
    Examination(
        "copies",
        "pairs",
        "after a training pass new modules can be copied, saved, cast and moved",
    ),
    Examination("dependence", "pairs", "the output still depends on the input as it did"),
    Examination("independence", "pairs", "samples of one batch do not change each other's outputs"),
    Examination("determinism", "pairs", "the same input gives the same output twice"),
    Examination("finite", "pairs", "new modules run on real values, and their outputs are finite"),
    Examination(
        "untouched",
        "pairs",
        "a call in evaluation leaves buffers, flags, hooks and random state as they were",
    ),
    Examination(
        "sizes",
        "passes",
        "which input sizes the model takes, and whether the original took more",
    ),
    Examination(
        "preserved",
        "passes",
        "with its gates at 0 the swapped model computes what the original does, bit for bit",
    ),
    Examination("cost", "measurement", "parameters, operations and memory, before and after"),
    Examination("drift", "measurement", "how far the outputs moved on the dummy input is reported"),
    Examination("limits", "measurement", "the limits that the recipe sets are kept"),
    Examination(
        "export", "file", "the swapped model can be exported, and the export returns the same"
    ),
    Examination("survival", "file", "the swapped model survives being copied, saved and loaded"),
)


def examination_names() -> tuple[str, ...]:
    """Return the names of all examinations, in the order of the table."""
    return tuple(row.name for row in EXAMINATIONS)

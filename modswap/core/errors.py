"""Every error that a user can cause: what is wrong, where, and what to do."""

from collections.abc import Sequence
from typing import ClassVar, TypeVar


class ModswapError(Exception):
    """Base of every error that a user can cause.

    Args:
        what: What is wrong, with the value and what was expected; lower case, no full stop.
        where: Recipe line (`swap.yaml:7:5`), module path or file.
        fix: One thing that the user can do.
        more: Further errors found in the same step, in order.

    `rule` is set to the recipe line of the rule that a module's error comes from, where it is
    known: reports point at it.
    """

    code: ClassVar[int] = 70
    rule: str = ""

    def __init__(
        self,
        what: str,
        where: str = "",
        fix: str = "",
        more: "tuple[ModswapError, ...]" = (),
    ) -> None:
        # positional, so that the error survives pickling between processes
        super().__init__(what, where, fix, more)
        self.what = what
        self.where = where
        self.fix = fix
        self.more = more

    @property
    def all(self) -> "tuple[ModswapError, ...]":
        """Return this error and those reported with it, in order."""
        return (self, *(inner for error in self.more for inner in error.all))

    def __str__(self) -> str:
        return "\n".join(error.line() for error in self.all)

    def line(self) -> str:
        """Return this error alone: `where: what; fix`."""
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.fix}" if self.fix else ""
        return f"{place}{self.what}{advice}"


class UsageError(ModswapError):
    """The call is wrong: an option, an argument or a combination of them."""

    code = 2


class RecipeError(ModswapError):
    """The recipe is wrong, or asks for what its module cannot be given."""

    code = 2


class MatchError(RecipeError):
    """A rule selects nothing, too much, or what another rule selects."""


class InputError(ModswapError):
    """The dummy input does not fit the model as it was before the swap."""

    code = 2


class ShapeError(ModswapError):
    """A shape, dtype, layout or value does not hold after the swap."""

    code = 1


class UnreachedError(ShapeError):
    """The dummy forward never calls a module that a rule selects."""


class LimitError(ShapeError):
    """A pass would take more than it may."""


class DriftError(ModswapError):
    """Something is not as the lock file says that it was."""

    code = 1


class CheckpointError(ModswapError):
    """A file cannot be read or written."""

    code = 3


class UnsafeError(ModswapError):
    """A file would have to build or run what was not allowed."""

    code = 4


class BugError(ModswapError):
    """modswap itself went wrong; `traceback` shows where."""

    code = 70
    traceback: str = ""


E = TypeVar("E", bound=ModswapError)


def together(errors: Sequence[E]) -> E:
    """Return one error that carries all of `errors`, to raise once.

    Args:
        errors: At least one error.
    """
    first, *rest = errors
    if not rest:
        return first
    return type(first)(first.what, first.where, first.fix, (*first.more, *rest))

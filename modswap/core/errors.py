"""Errors that a user can cause: the fault, its place, and a fix."""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self, TypeVar

from modswap.core.finding import THE_MODEL, Finding, Settings
from modswap.core.words.printable import tame


class ModswapError(Exception):
    """Base of all errors that a user can cause.

    Args:
        what: The fault, with the value and what was expected; lower case, no full stop.
        where: Recipe line (`swap.yaml:7:5`), module path or file.
        fix: A step that the user can take.
        more: Further errors found in the same step, in order.
        settings: Keys of the rule, or of its `args`, with values that could mend the fault.

    Attributes:
        check: Name of the check that does not hold, a row of the reports for CI.
        finding: The finding of the verdict that the error repeats, or None.
        rule: Recipe line of the rule that a module's error comes from, or empty: reports point
            at it.
        retry: Options with which the same command could go on, each word for itself. None of
            them lets a file run any code.
    """

    code: ClassVar[int] = 70
    check: str = "other"
    finding: Finding | None = None
    rule: str = ""
    retry: tuple[str, ...] = ()

    def __init__(
        self,
        what: str,
        where: str = "",
        fix: str = "",
        more: "tuple[ModswapError, ...]" = (),
        *,
        settings: Settings = (),
    ) -> None:
        # positional, so that the error survives pickling between processes
        super().__init__(what, where, fix, more)
        self.what = what
        self.where = where
        self.fix = fix
        self.more = more
        self.settings = settings

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """Return the error for a finding that failed, under the name of the finding's check."""
        where = finding.path or THE_MODEL
        error = cls(finding.what, where, finding.fix, settings=finding.settings)
        error.check = finding.check
        error.finding = finding
        return error

    @property
    def all(self) -> "tuple[ModswapError, ...]":
        """Return this error and those reported with it, in order."""
        return (self, *(inner for error in self.more for inner in error.all))

    def with_fix(self, fix: str) -> Self:
        """Return a copy of the error with another fix."""
        changed = copy.copy(self)
        changed.fix = fix
        return changed

    def saying(self, what: str) -> Self:
        """Return a copy of the error with another fault."""
        changed = copy.copy(self)
        changed.what = what
        return changed

    def at(self, where: str) -> Self:
        """Return a copy of the error at another place."""
        changed = copy.copy(self)
        changed.where = where
        return changed

    def with_retry(self, *options: str) -> Self:
        """Return a copy of the error with options for another try."""
        changed = copy.copy(self)
        changed.retry = options
        return changed

    def with_more(self, errors: "Sequence[ModswapError]") -> Self:
        """Return a copy of the error that carries further ones behind its own."""
        changed = copy.copy(self)
        changed.more = (*self.more, *errors)
        return changed

    def __str__(self) -> str:
        return "\n".join(error.line() for error in self.all)

    def line(self) -> str:
        """Return this error alone, on one line without control characters: `where: what; fix`."""
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.fix}" if self.fix else ""
        return tame(f"{place}{self.what}{advice}")


# options for a file that holds weights without code
NAME_A_FACTORY = ("--model", "FACTORY")


class UsageError(ModswapError):
    """The call is wrong: an option, an argument or a combination of them."""

    code = 2
    check = "usage"


class RecipeError(ModswapError):
    """The recipe is wrong, or its module does not take its arguments."""

    code = 2
    check = "recipe"


class MatchError(RecipeError):
    """A rule selects nothing, too much, or a module that another rule selects."""

    check = "match"


class MissingModuleError(RecipeError):
    """A module of Python that the recipe or the call names is not installed."""


class InputError(ModswapError):
    """The dummy input does not fit the model as it was before the swap."""

    code = 2
    check = "input"


class ShapeError(ModswapError):
    """A shape, dtype, layout or value does not hold after the swap."""

    code = 1
    check = "fit"


class ProofError(ModswapError):
    """Changed source does not build the swapped model."""

    code = 1
    check = "code"


class OutputError(ShapeError):
    """A new module gives another output than the one that it replaces.

    Attributes:
        resized: Whether the outputs differ in the sizes of tensors alone.
        sizes: Sizes that the new output has, in the axes in which two tensors differ.
    """

    resized: bool = False
    sizes: tuple[int, ...] = ()


class UnreachedError(ShapeError):
    """The dummy forward never calls a module that a rule selects."""

    check = "reached"


class LimitError(ShapeError):
    """A pass would take more memory than is allowed."""

    check = "limits"


class DriftError(ModswapError):
    """The result of the check differs from the lock file."""

    code = 1
    check = "lock"


class CheckpointError(ModswapError):
    """A file cannot be read or written."""

    code = 3
    check = "checkpoint"


class LostRankError(ModswapError):
    """Another process of those that do the work together has ended."""

    code = 3
    check = "ranks"


class ExplainError(ModswapError):
    """A module has no lines that can be explained."""

    code = 2
    check = "explain"


class UnsafeError(ModswapError):
    """A file would have to build or run an object that was not allowed."""

    code = 4
    check = "safety"


class BugError(ModswapError):
    """modswap itself has a fault; `traceback` shows the place."""

    code = 70
    traceback: str = ""


E = TypeVar("E", bound=ModswapError)


def together(errors: Sequence[E]) -> E:
    """Return one error that carries all of `errors`, at least one, to raise once."""
    first, *rest = errors
    return first.with_more(rest) if rest else first

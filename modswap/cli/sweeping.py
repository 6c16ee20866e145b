"""The options of a sweep, read: new modules, values to try, and the rule that selects the sites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import typer

from modswap.cli.one_rule import OneRule, settings_of
from modswap.cli.outcomes import STOPPED, prints_errors
from modswap.core.errors import UsageError

if TYPE_CHECKING:
    from modswap.cli.session import Session
    from modswap.core.asked.recipe import Recipe
    from modswap.core.swept.record import SweepResult

WITH = "--with"


def modules_of(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the new modules, each once.

    Raises:
        UsageError: If there is none.
    """
    if not names:
        raise UsageError("there is no new module to try", WITH, "add --with MODULE")
    return tuple(dict.fromkeys(names))


def grid_of(texts: Sequence[str]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return the options of all `--grid OPTION=A,B`, each with its values, as YAML reads a list.

    Raises:
        UsageError: If one is no such text, or given twice, or names a value twice.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, values = _varied(text)
        if name in found:
            raise UsageError(f"{name!r:.80} is given twice", "--grid", "keep one of them")
        found[name] = values
    return tuple(found.items())


def _varied(text: str) -> tuple[str, tuple[Any, ...]]:
    name, _, values = text.partition("=")
    if not (name.strip() and values.strip()):
        raise UsageError(f"{text!r:.80} is no OPTION=A,B", "--grid", "write --grid topk=1,4,8")
    ((_, listed),) = settings_of([f"{name}=[{values}]"]).items()
    if any(one in listed[:place] for place, one in enumerate(listed)):
        raise UsageError(f"{text!r:.80} has a value twice", "--grid", "keep one of them")
    return name.strip(), tuple(listed)


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """The new modules, the values to try, and the rule that selects the sites."""

    modules: tuple[str, ...]
    grid: tuple[tuple[str, tuple[Any, ...]], ...]
    rule: OneRule

    def recipe(self) -> "Recipe":
        """Return the recipe of the rule.

        Raises:
            RecipeError: If the rule is wrong.
        """
        from modswap.ops.recipes import recipe_of_options

        return recipe_of_options(self.rule.text(()))


def asked_of(given: Mapping[str, Any]) -> SweepOptions:
    """Return what the options of the command ask for.

    Raises:
        UsageError: If they are half a rule, or put modules in beside others, or say no values.
    """
    modules = modules_of(given["with_"])
    rule = OneRule(**{one.name: given[one.name] for one in fields(OneRule) if given.get(one.name)})
    rule = replace(rule, with_=modules[0])
    rule.refuse_half()
    if rule.start == "preserve":
        what = "behind a gate of 0 every new module computes what the old one did"
        raise UsageError(what, "--start", "sweep with fresh or inherit")
    return SweepOptions(modules, grid_of(given["grid"] or ()), rule)


def finish_sweep(session: "Session", found: "SweepResult") -> None:
    """Print a sweep, and end with its exit code.

    Raises:
        typer.Exit: With the exit code, if it is not 0.
    """
    from modswap.report.swept.data import sweep_json
    from modswap.report.swept.table import sweep_table

    table = session.format == "table"
    if not (table and session.quiet and found.error is None):
        session.emit(sweep_table(found, session.page()) if table else sweep_json(found))
    if found.error is not None and prints_errors(session):
        session.complain(found.error)
    code = found.exit_code or (STOPPED if found.interrupted else 0)
    if code:
        raise typer.Exit(code)

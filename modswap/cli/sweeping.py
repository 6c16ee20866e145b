"""The options of a sweep, read: new modules, values to try, and the rule that selects the sites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from modswap.cli.one_rule import HEAD, OneRule, settings_of
from modswap.cli.outcomes import STOPPED, prints_errors
from modswap.cli.session import put_text, require_folder
from modswap.core.asked.own_texts import DRAWING, RECIPE_TEXT
from modswap.core.asked.used_paths import RESUME, UsedPath
from modswap.core.errors import UsageError
from modswap.core.swept.record import SweptCost
from modswap.core.words.nearest import did_you_mean

if TYPE_CHECKING:
    from modswap.cli.session import Session
    from modswap.core.asked.recipe import Recipe
    from modswap.core.asked.source import Place
    from modswap.core.swept.choice import ChoiceRequest
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
    choice: "ChoiceRequest | None"
    texts: "SweepTexts"

    def recipe(self) -> "Recipe":
        """Return the recipe of the rule.

        Raises:
            RecipeError: If the rule is wrong.
        """
        from modswap.ops.recipes import recipe_of_options

        text = self.rule.text(())
        varied: dict[Place, str] = {
            ("replace", 0, "args", name): f"--grid {name}" for name, _ in self.grid
        }
        return recipe_of_options(replace(text, options={**text.options, **varied}))


def asked_of(given: Mapping[str, Any]) -> SweepOptions:
    """Return what the options of the command ask for.

    Raises:
        UsageError: If they are half a rule, or put modules in beside others, or say no values.
    """
    modules = modules_of(given["with_"])
    rule = OneRule(**{one.name: given[one.name] for one in fields(OneRule) if given.get(one.name)})
    rule = replace(rule, with_=modules[0])
    rule.refuse_half()
    grid = grid_of(given["grid"] or ())
    return SweepOptions(modules, grid, rule, _choice_of(given), texts_of(given))


def _choice_of(given: Mapping[str, Any]) -> "ChoiceRequest | None":
    """Return what is asked of a choice; None for none.

    Raises:
        UsageError: If there is a budget or a recipe for it, and no number of sites.
    """
    from modswap.core.swept.choice import Budgets, ChoiceRequest, amount_of, count_of

    if given["choose"] is None:
        for name in ("max_flops", "max_params", "max_latency", "save_recipe"):
            if given[name] is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    "nothing is to be chosen", option, "add --choose K, or leave it out"
                )
        return None
    flops, params = (
        None if given[name] is None else amount_of(given[name], f"--{name.replace('_', '-')}")
        for name in ("max_flops", "max_params")
    )
    return ChoiceRequest(*count_of(given["choose"]), Budgets(flops, params, given["max_latency"]))


@dataclass(frozen=True, slots=True)
class SweepTexts:
    """The files that a sweep writes beside its report.

    Args:
        recipe: That of the recipe of the choice; None for none.
        plot: That of the drawing.
        cost: The cost in the drawing.
    """

    recipe: Path | None = None
    plot: Path | None = None
    cost: str = "flops"

    def note(self, session: "Session", resume: Path | None) -> None:
        """Note the files as written, so that none of them is another one of the run."""
        for file in (resume, self.recipe, self.plot):
            if file is not None:
                require_folder(file)
        if resume is not None:
            session.writes.append(UsedPath(RESUME, resume))
        if self.recipe is not None:
            session.writes.append(UsedPath("the saved recipe", self.recipe, RECIPE_TEXT))
        if self.plot is not None:
            session.writes.append(UsedPath("the plot", self.plot, DRAWING))

    def write(self, session: "Session", found: "SweepResult") -> None:
        """Write the drawing, and the recipe of the choice where one holds."""
        from modswap.report.swept.plot import sweep_svg

        session.judge()
        if self.recipe is not None and found.recipe and found.error is None:
            put_text(self.recipe, HEAD + found.recipe)
        if self.plot is not None and found.ranked:
            put_text(self.plot, sweep_svg(found, self.cost))


def texts_of(given: Mapping[str, Any]) -> SweepTexts:
    """Return the files that the options name.

    Raises:
        UsageError: If the drawing is no SVG, or its cost is unknown.
    """
    plot, cost = given["plot"], given["plot_cost"]
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError(f"{plot.name!r:.80} is no SVG", "--plot", "name FILE.svg")
    costs = [one.name for one in fields(SweptCost)]
    if cost not in costs:
        fix = did_you_mean(cost, costs) or f"name one of {', '.join(costs)}"
        raise UsageError(f"there is no cost {cost!r:.40}", "--plot-cost", fix)
    return SweepTexts(given["save_recipe"], plot, cost)


def finish_sweep(session: "Session", found: "SweepResult", texts: SweepTexts) -> None:
    """Print a sweep, write the texts beside its report, and end with its exit code.

    Raises:
        typer.Exit: With the exit code, if it is not 0.
    """
    from modswap.report.swept.data import sweep_json
    from modswap.report.swept.html import sweep_html
    from modswap.report.swept.table import sweep_table

    shown = {
        "table": lambda: sweep_table(found, session.page()),
        "json": lambda: sweep_json(found),
        "html": lambda: sweep_html(found, session.page()),
    }
    if not (session.format == "table" and session.quiet and found.error is None):
        session.emit(shown[session.format]())
    texts.write(session, found)
    if found.error is not None and prints_errors(session):
        session.complain(found.error)
    code = found.exit_code or (STOPPED if found.interrupted else 0)
    if code:
        raise typer.Exit(code)

"""Examine a swap in memory: the data of the examinations, and a run of each of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import Recipe, Verify
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import ModswapError, together
from modswap.core.finding import Finding
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.io.recipe.errors import sentences
from modswap.nn.inserted_site import without_others
from modswap.ops.apply import module_at, temporarily
from modswap.ops.examine import table
from modswap.ops.run.describe import one_line
from modswap.ops.swap import Prepared
from modswap.ops.trace.passes import Trace

MAX_CALLS_OF_MODULES = 4_000  # in a pass of a model that is run again and again
_OF_THE_WHOLE = ("passes", "file")  # kinds of examinations
_FAST = "the passes alone were asked for"


@dataclass(eq=False)
class Bench:
    """A swapped model, its passes before and after, and the modules taken out.

    Examinations leave the model as it is.

    Args:
        model: The model, its new modules in place. Its weights must not be read if
            `prepared.unreal`.
        prepared: The new modules (`built`), the passes (`cases`) and their traces before the swap.
        after: Traces of the same passes after the swap.
        old: The modules that were taken out, by the path of their site; aliases left out.
        recipe: The recipe; its `verify` chooses the examinations.
        subject: The file; None for a model in memory.
        thorough: Whether examinations may take any time.
        fast: Whether nothing is examined.
        keys: The keys of the file's outermost mapping; empty if it is none.
        write: Writes the swapped model into a folder as the command will, and returns the file;
            None where nothing is to be written.
        out: The file that the command will write, as the user named it; None for none.
        progress: Receives a line on each step.
        shared: Objects that several examinations use, by a name; made by the first of them.
    """

    model: nn.Module
    prepared: Prepared
    after: Sequence[Trace]
    old: Mapping[str, nn.Module]
    recipe: Recipe
    subject: Subject | None = None
    thorough: bool = False
    fast: bool = False
    keys: Sequence[str] = ()
    write: Callable[[Path], Path] | None = None
    out: Path | None = None
    progress: Progress = field(default=silent)
    shared: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sites(self) -> Iterator[tuple[str, nn.Module, nn.Module]]:
        """Return for every swapped site its path, the old module and the new one, by themselves.

        The old one of a branch is the module that it goes around; of any other module that is put
        in beside one, a module that returns its input. Gates are left out.
        """
        return (
            (site.path, self._alone(site), built.layer)
            for built in self.prepared.built
            for site in built.sites
        )

    def _alone(self, site: Site) -> nn.Module:
        if site.joint is None or site.beside is None or site.joint.place in {"after", "before"}:
            return self.old[site.path]
        return without_others(module_at(self.model, site.beside.path))

    @property
    def places(self) -> Iterator[tuple[str, nn.Module, nn.Module]]:
        """Return for every swapped site its path, and what is there before and after the swap."""
        return (
            (site.path, self.old[site.path], built.module)
            for built in self.prepared.built
            for site in built.sites
        )

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        """Run a block with the old modules in place; yield the model."""
        built = self.prepared.built
        olds = [(site.paths, self.old[site.path]) for each in built for site in each.sites]
        with temporarily(self.model, olds):
            yield self.model


def examined(
    verdict: Verdict, bench: Bench, rows: Sequence[table.Examination] | None = None
) -> Verdict:
    """Return a verdict with the findings of the examinations, in the order of their table.

    Nothing is examined where the passes failed: the findings would repeat the problems. The rows
    are the whole table by default; those in `verify.skip` are left out.

    Raises:
        RecipeError: If `verify.skip` has the name of no examination.
    """
    _check_names(bench.recipe)
    if not verdict.ok:
        return verdict
    wanted = table.EXAMINATIONS if rows is None else rows
    wanted = tuple(row for row in wanted if row.name not in bench.recipe.verify.skip)
    long = _long(bench)
    found: list[Finding] = []
    for row in wanted:
        left = _FAST if bench.fast else long if row.kind in _OF_THE_WHOLE else ""
        if left:
            found.append(Finding(row.name, "", "skipped", left, about=row.about))
            continue
        bench.progress(f"examining: {row.name}")
        found += _findings(row, bench)
    return replace(verdict, findings=tuple(found))


def _long(bench: Bench) -> str:
    """Return why examinations that run the whole model again would take long; empty if not."""
    calls = max((len(one.seen.visits) for one in bench.after), default=0)
    if calls <= MAX_CALLS_OF_MODULES or bench.thorough:
        return ""
    return (
        f"a pass makes {calls:,} calls of modules, over {MAX_CALLS_OF_MODULES:,}: it would take "
        "long; `--thorough` takes that time"
    )


def _check_names(recipe: Recipe) -> None:
    """Refuse other names in `verify.skip`, as a recipe made in Python may have them."""
    data = {"skip": list(recipe.verify.skip)}
    try:
        Verify.model_validate(data, context={"examinations": table.examination_names()})
    except ValidationError as error:
        mistakes = sentences(error, data, recipe.source, Verify, ("verify",))
        raise together(list(mistakes.values())) from None


def _findings(row: table.Examination, bench: Bench) -> Iterator[Finding]:
    """Yield the findings of a row; those before an exception count all the same."""
    try:
        for found in row.load()(bench):
            yield replace(found, about=row.about)
    except ModswapError:
        raise
    except Exception as error:  # noqa: BLE001 - the model's own code may raise anything
        what = f"it could not be examined: {one_line(error)}"
        yield Finding(row.name, "", "skipped", what, about=row.about)

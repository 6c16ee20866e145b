"""Examining a swap that stands: what its examinations are given, and running them in turn."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import ModswapError
from modswap.core.finding import CheckName, Finding
from modswap.core.progress import Progress, silent
from modswap.ops.apply import temporarily
from modswap.ops.run.describe import one_line
from modswap.ops.swap import Prepared
from modswap.ops.trace.passes import Trace


@dataclass(frozen=True, slots=True)
class Bench:
    """What an examination works on. It leaves the model as it is.

    Args:
        model: The model, its new modules in place. Its weights must not be read if
            `prepared.unreal`.
        prepared: What went in (`built`), the passes (`cases`) and what they showed before.
        after: What the same passes showed after the swap.
        old: The modules that were taken out, by the path of their site; aliases left out.
        recipe: What was asked for; `recipe.verify` chooses.
        subject: The file; None for a model in memory.
        thorough: Whether time does not matter.
        keys: The keys of the file's outermost mapping; empty if it is none.
        write: Writes the swapped model into a folder as the command will, and returns the file;
            None where nothing is to be written.
        progress: Told what is being done.
    """

    model: nn.Module
    prepared: Prepared
    after: Sequence[Trace]
    old: Mapping[str, nn.Module]
    recipe: Recipe
    subject: Subject | None = None
    thorough: bool = False
    keys: Sequence[str] = ()
    write: Callable[[Path], Path] | None = None
    progress: Progress = field(default=silent)

    @property
    def sites(self) -> Iterator[tuple[str, nn.Module, nn.Module]]:
        """Return for every swapped site its path, the old module and the new one."""
        return (
            (site.path, self.old[site.path], built.module)
            for built in self.prepared.built
            for site in built.sites
        )

    @contextmanager
    def original(self) -> Iterator[nn.Module]:
        """Put the old modules back for the time of a block, and give the model."""
        built = self.prepared.built
        olds = [(site.paths, self.old[site.path]) for one in built for site in one.sites]
        with temporarily(self.model, olds):
            yield self.model


@dataclass(frozen=True, slots=True)
class Examination:
    """One examination.

    Args:
        name: What reports call it, and `verify.skip` in a recipe; what it finds bears it, or the
            name of another row that it does the work for.
        run: Yields what it finds: at least one finding for each site, or for the model.
        thorough: Whether it is only made where time does not matter.
    """

    name: CheckName
    run: Callable[[Bench], Iterable[Finding]]
    thorough: bool = False


def examined(verdict: Verdict, bench: Bench, rows: Sequence[Examination]) -> Verdict:
    """Return a verdict with what the examinations find that a recipe asks for, in their order.

    Where the passes already failed nothing else is examined: it would only repeat them.

    Args:
        verdict: What the passes showed.
        bench: What the examinations work on.
        rows: The examinations that there are.
    """
    if not verdict.ok:
        return verdict
    found: list[Finding] = []
    for row in rows:
        if row.name in bench.recipe.verify.skip or (row.thorough and not bench.thorough):
            continue
        bench.progress(f"examining: {row.name}")
        found += _findings(row, bench)
    return replace(verdict, findings=tuple(found))


def _findings(row: Examination, bench: Bench) -> Iterator[Finding]:
    """Yield what a row finds; what it found before it fails counts all the same."""
    try:
        yield from row.run(bench)
    except ModswapError:
        raise
    except Exception as error:  # noqa: BLE001 - the model's own code may raise anything
        what = f"it could not be examined: {one_line(error)}"
        yield Finding(row.name, "", "skipped", what)

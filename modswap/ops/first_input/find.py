"""Find the dummy input of a run: the one that was given, or the first that the model takes."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from torch import nn

from modswap.core.asked.job import Job, Subject
from modswap.core.errors import UsageError
from modswap.core.kept.found_input import FoundInput
from modswap.core.progress import Progress, silent
from modswap.ops.first_input.said import Said, said_calls, said_of_model
from modswap.ops.first_input.usual import usual_calls
from modswap.ops.load.model import Loaded
from modswap.ops.run.devices import is_without_data
from modswap.ops.run.inputs import Case, DummyCall, entries_of
from modswap.ops.trace.passes import Trace, trace

MAX_TRIED = 60  # inputs
SECONDS = 10.0  # in which inputs are tried on tensors without data, and again on real ones
SHOWN = 6  # inputs in the message that none fits
GIVE = "give one: `--input 1,3,224,224`, once for each tensor of the call"


@dataclass(frozen=True, slots=True)
class Found:
    """Calls that a model takes, why they were taken, and the pass of the first of them."""

    calls: tuple[DummyCall, ...]
    why: str
    traced: Trace

    @property
    def record(self) -> FoundInput:
        """Return what a report and a recipe say of them."""
        shown = " and ".join(map(str, self.calls))
        return FoundInput(shown, self.why, entries_of(self.calls))


@dataclass(frozen=True, slots=True)
class Settled:
    """A job whose recipe has the inputs, and the calls to run."""

    job: Job
    calls: tuple[DummyCall, ...]  # may hold live tensors; empty for those of the recipe
    found: FoundInput | None = None  # None if they were given

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the sentences for a report."""
        return () if self.found is None else (self.found.note,)


def settled(job: Job, loaded: Loaded, progress: Progress = silent) -> Settled:
    """Return a job with its dummy inputs: of the command, of the recipe, or found.

    Raises:
        UsageError: If none was given, and none is found.
    """
    subject, recipe = job.subject, job.recipe
    found: FoundInput | None = None
    calls: tuple[DummyCall, ...] = ()
    if subject.inputs:
        calls = (DummyCall(subject.inputs, {}),)
    elif subject.find_input or not recipe.inputs:
        progress("looking for an input that fits")
        where = "--input" if recipe.source.options or subject.find_input else recipe.source.name
        first = find_input(loaded, where, " or `inputs:` in the recipe")
        calls, found = first.calls, first.record
    if calls:
        recipe = recipe.model_copy(update={"inputs": entries_of(calls)}).read_from(recipe.source)
    subject = replace(subject, inputs=(), find_input=False)
    return Settled(replace(job, subject=subject, recipe=recipe), calls, found)


def first_pass(loaded: Loaded, subject: Subject) -> Found:
    """Return the first pass that runs, of the inputs that were given or of those found.

    Raises:
        UsageError: If none runs.
    """
    if not subject.inputs:
        return find_input(loaded, str(subject.file))
    given = Said((DummyCall(subject.inputs, {}),), "")
    return _first(loaded.model, [given], str(subject.file), "")


def find_input(loaded: Loaded, where: str, also: str = "") -> Found:
    """Return the first calls that a model takes, of those that it says of itself and usual ones.

    Passes run on tensors without data; if none succeeds there, on real ones, unless the weights
    were not read.

    Raises:
        UsageError: If there are none; `where` is its place, `also` another remedy.
    """
    return _first(
        loaded.model,
        list(islice(_distinct(loaded.model, said_calls(loaded)), MAX_TRIED)),
        where,
        also,
    )


def find_for(model: nn.Module, where: str) -> Found:
    """Return the first calls that a model in memory takes, as `find_input` does.

    Raises:
        UsageError: If there are none; `where` is its place.
    """
    tried = _distinct(model, said_of_model(model))
    return _first(model, list(islice(tried, MAX_TRIED)), where, "")


def _distinct(model: nn.Module, said: Iterable[Said]) -> Iterator[Said]:
    """Yield the calls to try, each once: those that were said, and usual ones."""
    seen: set[str] = set()
    usual = (Said((one.call,), one.why) for one in usual_calls(model))
    for choice in (said, usual):
        for one in choice:
            text = str(one.calls)
            if text not in seen:
                seen.add(text)
                yield one


def _first(model: nn.Module, tried: list[Said], where: str, also: str) -> Found:
    refused: Trace | None = None
    for unreal in (True, False):
        end = time.monotonic() + SECONDS
        for one in tried if unreal or not is_without_data(model) else ():
            if refused is not None and time.monotonic() > end:
                break
            passed, failed = _passes(model, one, unreal=unreal)
            if failed is None:
                return Found(one.calls, one.why, passed)
            refused = refused or failed
    raise _none(tried, refused, where, also)


def _passes(model: nn.Module, one: Said, *, unreal: bool) -> tuple[Trace, Trace | None]:
    """Return the first pass of some calls, and the first that fails; None if all succeed."""
    traces = [trace(model, Case(call), unreal=unreal, quick=True) for call in one.calls]
    return traces[0], next((traced for traced in traces if traced.cause is not None), None)


def _none(tried: list[Said], refused: Trace | None, where: str, also: str) -> UsageError:
    """Return the error of a model that takes none of the inputs that were tried."""
    listed = [" and ".join(map(str, one.calls)) for one in tried]
    shown = ", ".join(listed[:SHOWN]) or "none, since no layer shows the shape of an input"
    if len(listed) > SHOWN:
        shown += f" and {len(listed) - SHOWN} more"
    why = f"; the first was refused: {refused.seen.error}" if refused else ""
    return UsageError(f"no dummy input fits; tried: {shown}{why}", where, f"{GIVE}{also}")

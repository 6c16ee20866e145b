"""Judging a swap: the outputs of the model before against those after."""

from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modswap.core.decided.outputs import (
    Expected,
    is_resized,
    resized_outputs,
    unexpected_outputs,
)
from modswap.core.finding import ADAPT, Finding, Settings
from modswap.core.seen.site import ANY_LAYOUT, Call
from modswap.core.seen.values import NONE, Group, TensorInfo, Value, difference


@dataclass(frozen=True, slots=True)
class CaseKey:
    """The identity of a pass."""

    input: str  # the dummy input in words, such as `(1, 3, 224, 224)`
    mode: str = "eval"  # `eval` or `train`
    dtype: str = "float32"  # floating dtype of weights and inputs

    def __str__(self) -> str:
        return f"{self.input} {self.mode} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Visit:
    """A call of a module, with the modules around it."""

    path: str  # the module's first path; its aliases are left out
    call: Call  # its inputs and output
    around: tuple[str, ...] = ()  # paths of the modules that were running then, the outermost first
    # `contiguous`, `channels_last` or `other` where its output is a map; empty for no map, for a
    # map that is both, or where it is not known
    memory_format: str = field(default="", compare=False)
    # paths of the modules that made its inputs, as far as it was given their very tensors
    takes: tuple[str, ...] = field(default=(), compare=False)

    def inside(self, sites: Container[str]) -> bool:
        """Return whether it was called from inside one of these sites."""
        return any(path in sites for path in self.around)


@dataclass(frozen=True, slots=True)
class Pass:
    """A forward pass of the whole model."""

    case: CaseKey
    visits: tuple[Visit, ...] = ()  # every call of every module, in the order they ended
    output: Value | None = None  # the output of the model, or None if it raised
    # whether every floating output was finite; None where there were no values
    finite: bool | None = None
    error: str = ""  # the exception, in a line, or empty
    raised_in: str = ""  # path of the innermost module that raised
    missing: str = ""  # attribute that it raised for not finding at a module, or empty
    missing_at: str = ""  # path of that module

    def by_path(self) -> Mapping[str, tuple[Call, ...]]:
        """Return the calls of each module, in order."""
        return _by_path(self.visits)


def _by_path(visits: Iterable[Visit]) -> Mapping[str, tuple[Call, ...]]:
    found: dict[str, list[Call]] = {}
    for visit in visits:
        found.setdefault(visit.path, []).append(visit.call)
    return {path: tuple(calls) for path, calls in found.items()}


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """The outputs of a pass before and after, and the differences."""

    key: CaseKey
    before: Value | None
    after: Value | None
    problems: tuple[Finding, ...] = ()
    changed: tuple[str, ...] = ()  # outputs that have another size, as a rule says they may

    @property
    def ok(self) -> bool:
        """Return whether nothing was found."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of all passes and examinations of a swap."""

    cases: tuple[CaseVerdict, ...]  # a verdict for each pass
    finite: bool | None  # whether all outputs were finite; None where no values were computed
    findings: tuple[Finding, ...] = ()  # results of the examinations

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Return all failures, those of the passes first, each once."""
        failed = (found for found in self.findings if found.status == "failed")
        cases = (problem for case in self.cases for problem in case.problems)
        return tuple(dict.fromkeys((*cases, *failed)))

    @property
    def ok(self) -> bool:
        """Return whether every case holds."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Evidence:
    """A pass before and after the swap."""

    before: Pass
    after: Pass
    swapped: Collection[str]  # paths of the swapped sites
    changed: Collection[str] = ()  # those whose output may have another size
    expected: Expected = field(default_factory=dict)  # shapes of the model's outputs


def _problem(path: str, what: str, fix: str = "", settings: Settings = ()) -> Finding:
    return Finding("pass", path, "failed", what, fix, settings=settings)


def runs(seen: Evidence) -> list[Finding]:
    """Find an exception that the swapped model raises."""
    if not seen.after.error:
        return []
    place = seen.after.raised_in
    settings: Settings = ()
    if any(place == path or place.startswith(f"{path}.") for path in seen.swapped):
        settings = ANY_LAYOUT
        fix = "the new module does not take its site's inputs: change its args or its layout"
    elif seen.after.missing and seen.after.missing_at in seen.swapped:
        fix = (
            f"the module around reads `.{seen.after.missing}` of the module that was replaced: "
            f"keep {seen.after.missing_at!r} out with `exclude`, "
            "or swap in a class that has it and takes the site's calls as they are"
        )
    else:
        fix = f"a module behind the swap does not take its new input: {_behind(seen)}"
    return [_problem(place, f"the forward pass raised {seen.after.error}", fix, settings)]


def _behind(seen: Evidence) -> str:
    """Return what to do where a module behind a site does not take what the site now gives."""
    place = seen.after.raised_in
    too = f"replace {place!r} too, by one that takes it" if place else "change the model's forward"
    old, new = seen.before.by_path(), seen.after.by_path()
    for path in (path for path in seen.swapped if path in old and path in new):
        was, now = old[path][0].output, new[path][0].output
        if difference(was, now) is not None:
            kept = "keep the sizes of" if path in seen.changed else "choose args that keep those of"
            return f"{path!r} gave {was}, now gives {now}; {kept} the old one, or {too}"
    sites = ", ".join(map(repr, list(seen.swapped)[:3]))
    return f"leave out the site that feeds it, of {sites}, or {too}"


def reached(seen: Evidence) -> list[Finding]:
    """Find swapped sites whose number of calls differs from before."""
    if seen.after.error:
        return []
    old, new = seen.before.by_path(), seen.after.by_path()
    counts = {path: (len(old.get(path, ())), len(new.get(path, ()))) for path in seen.swapped}
    fix = "an unseen module is not verified: give an input that reaches it"
    return [
        _problem(
            path,
            f"was called {was} times, is now called {now} times",
            fix,
            () if now else (("exclude", path),),
        )
        for path, (was, now) in counts.items()
        if was != now or now == 0
    ]


def lost_format(before: Pass, after: Pass, swapped: Container[str]) -> str | None:
    """Return the first module whose output is no longer in channels_last after a swap; or None."""
    then: dict[str, list[str]] = {}
    for visit in before.visits:
        if not visit.inside(swapped):
            then.setdefault(visit.path, []).append(visit.memory_format)
    for visit in after.visits:
        was = then.get(visit.path)
        if visit.inside(swapped) or not was:
            continue
        if was.pop(0) == "channels_last" and visit.memory_format not in {"", "channels_last"}:
            return visit.path
    return None


def module_shapes(seen: Evidence) -> list[Finding]:
    """Find the first module, in order of execution, whose output changed."""
    # a module that is also called from inside a site, as a shared activation is, has lost calls
    outside = (visit for visit in seen.before.visits if not visit.inside(seen.swapped))
    old = {path: deque(calls) for path, calls in _by_path(outside).items()}
    resized = False  # whether a site whose output may have another size has run
    for visit in seen.after.visits:
        resized = resized or visit.path in seen.changed
        calls = old.get(visit.path)
        if not visit.path or visit.inside(seen.swapped) or not calls:
            continue
        was, now = calls.popleft().output, visit.call.output
        found = difference(was, now)
        if found is not None and not (resized and is_resized(was, now)):
            fix, settings = _fix_of(was, now) if visit.path in seen.swapped else ("", ())
            return [_problem(visit.path, found, fix, settings)]
    return []


def _fix_of(before: Value, after: Value) -> tuple[str, Settings]:
    """Return the fix for a site whose output changed, and settings that could be it."""
    if isinstance(before, TensorInfo) and isinstance(after, TensorInfo):
        old, new = before.shape, after.shape
        if old[:1] != new[:1] and sorted(old) == sorted(new):
            return "its axes are in another order: return the batch first, as in its input", ()
        if old == new:
            return f"it gives {after.dtype}: end its forward with `.to(x.dtype)`", ()
    fix = structure_fix(before, after)
    if fix:
        return fix, ()
    return "set `adapt: true` on its rule, or choose args that keep its shape", ADAPT


def structure_fix(before: Value, after: Value) -> str:
    """Return the fix for a module that returns a container which no adapter can convert.

    It is empty where both outputs are tensors, or the site returned a tensor and then None, which
    an adapter adds.
    """
    wanted: Value = before
    if isinstance(before, Group) and before.kind == "tuple" and before.items:
        first, *rest = before.items
        wanted = first if all(value == NONE for value in rest) else before
    if isinstance(after, TensorInfo) and isinstance(wanted, TensorInfo):
        return ""
    return f"choose a class that gives {before}, as the replaced one does, and not {after}"


def model_output(seen: Evidence) -> list[Finding]:
    """Find a difference in the structure, shapes or dtypes of the model's output."""
    if seen.before.output is None or seen.after.output is None:
        return []
    found = difference(seen.before.output, seen.after.output)
    resized = bool(seen.changed) and is_resized(seen.before.output, seen.after.output)
    wrong = [found] if found and not resized else []
    fix = "correct `verify.expect`, or the args of the new module"
    return [
        *(_problem("", what) for what in wrong),
        *(_problem("", w, fix) for w in unexpected_outputs(seen.after.output, seen.expected)),
    ]


def finite(seen: Evidence) -> list[Finding]:
    """Find outputs that became infinite or NaN."""
    if seen.after.finite is False and seen.before.finite is not False:
        return [_problem("", "output is not finite any more")]
    return []


CHECKS: tuple[Callable[[Evidence], list[Finding]], ...] = (
    module_shapes,  # the first difference is reported before the exception that it caused
    runs,
    reached,
    model_output,
    finite,
)


def judge(
    before: Sequence[Pass],
    after: Sequence[Pass],
    swapped: Sequence[str],
    changed: Collection[str] = (),
    expected: Expected | None = None,
) -> Verdict:
    """Return whether every pass after the swap matches the one before, at the same position.

    Args:
        before: The passes before.
        after: The same passes after the swap.
        swapped: Paths of the swapped sites.
        changed: Those whose output may have another size, and with it the outputs behind them.
        expected: Shapes that outputs of the model must have.
    """
    paths = dict.fromkeys(swapped)  # in their order, and found at once
    cases = tuple(
        _judge_case(Evidence(old, new, paths.keys(), changed, expected or {}))
        for old, new in zip(before, after, strict=True)
    )
    values = [seen.finite for seen in after if seen.finite is not None]
    return Verdict(cases, all(values) if values else None)


def _judge_case(seen: Evidence) -> CaseVerdict:
    problems = tuple(problem for check in CHECKS for problem in check(seen))
    was, now = seen.before.output, seen.after.output
    changed = resized_outputs(was, now) if seen.changed and was and now else ()
    return CaseVerdict(seen.after.case, was, now, problems, changed)

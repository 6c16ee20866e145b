"""Passes and examinations for people, in few lines where all of them hold."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from modswap.core.decided.verdict import CaseVerdict, Verdict
from modswap.core.errors import ModswapError
from modswap.core.finding import THE_MODEL, Finding
from modswap.core.seen.values import Group, TensorInfo, Value
from modswap.report.page import Page

SHOWN_CASES = 4
SHOWN_INPUTS = 3
GOOD, BAD = ("holds ", "green"), ("fails ", "bold red")


def verification(
    verdict: Verdict, error: ModswapError | None, page: Page
) -> Iterator[RenderableType]:
    """Yield lines on the passes, then on the examinations; a `verbose` page lists each of them.

    The report shows the error, if there is one, in full elsewhere.
    """
    good = [case for case in verdict.cases if case.ok]
    if page.verbose or len(good) <= SHOWN_CASES:
        yield from map(_case, verdict.cases)
    else:
        yield from _summed(good)
        yield from (_case(case) for case in verdict.cases if not case.ok)
    if verdict.finite is None:
        yield Text("      shapes only: no values were computed", "dim")
    listed = () if error is None else tuple(each.finding for each in error.all)
    groups: dict[str, list[Finding]] = {}
    for found in verdict.findings:
        groups.setdefault(found.check, []).append(found)
    yield from _held(groups, page)
    sites = dict.fromkeys(found.path for found in verdict.findings if found.status == "passed")
    yield from _failures(groups, listed, [path for path in sites if path])
    yield from _skipped(groups)


def _case(case: CaseVerdict) -> Text:
    before = "raised" if case.before is None else str(case.before)
    after = "raised" if case.after is None else str(case.after)
    shown = before if before == after else f"{before} → {after}"
    return Text.assemble(GOOD if case.ok else BAD, f"{case.key}: model output {shown}")


def _summed(cases: Sequence[CaseVerdict]) -> Iterator[Text]:
    """Yield a line for all passes whose outputs differ in sizes alone."""
    groups: dict[str, list[CaseVerdict]] = {}
    for case in cases:
        groups.setdefault(_form(case.after), []).append(case)
    for group in groups.values():
        yield _case(group[0]) if len(group) == 1 else _alike(group)


def _alike(cases: Sequence[CaseVerdict]) -> Text:
    """Return a line for several passes whose outputs differ in sizes alone."""
    keys = [case.key for case in cases]
    inputs = list(dict.fromkeys(key.input for key in keys))
    shown = inputs[:SHOWN_INPUTS]
    if len(inputs) > SHOWN_INPUTS:
        shown.append(f"{len(inputs) - SHOWN_INPUTS} more")
    sorts = (dict.fromkeys(key.mode for key in keys), dict.fromkeys(key.dtype for key in keys))
    how = " ".join(", ".join(sort) for sort in sorts)
    outputs = [case.after for case in cases if case.after is not None]
    what = f"{len(cases)} passes {how} of {', '.join(shown)}: model output {_common(outputs)}"
    return Text.assemble(GOOD, what)


def _form(value: Value | None) -> str:
    """Return the structure of a value, without sizes and dtypes."""
    if isinstance(value, TensorInfo):
        return f"({len(value.shape)})"
    if isinstance(value, Group):
        inner = (f"{n}={_form(v)}" for n, v in zip(value.names, value.items, strict=True))
        return f"{value.kind}[{', '.join(inner)}]"
    return "other"


def _common(values: Sequence[Value]) -> str:
    """Return values of one form as one value, with a star in place of differences."""
    first = values[0]
    if isinstance(first, TensorInfo):
        axes = zip(*(value.shape for value in values if isinstance(value, TensorInfo)), strict=True)
        return f"({', '.join(str(axis[0]) if len({*axis}) == 1 else '*' for axis in axes)})"
    if isinstance(first, Group):
        columns = zip(*(value.items for value in values if isinstance(value, Group)), strict=True)
        return f"{first.kind}[{', '.join(map(_common, columns))}]"
    return str(first) if len({*map(str, values)}) == 1 else "*"


def _held(groups: Mapping[str, Sequence[Finding]], page: Page) -> Iterator[Text]:
    """Yield the examinations that hold; those of the same places share a line."""
    lines: dict[str, list[str]] = {}
    for name, group in groups.items():
        good = [found for found in group if found.status == "passed"]
        if not good or any(found.status == "failed" for found in group):
            continue
        lines.setdefault(_remark(good, page) or _places(good), []).append(name)
    for said, names in lines.items():
        yield Text.assemble(GOOD, f"{', '.join(names)}: {said}")
        for line in _advice(groups, names):
            yield Text(f"        {line}", no_wrap=True, overflow="fold")
        if page.verbose:
            yield from _remarks(groups, names)


def _remarks(groups: Mapping[str, Sequence[Finding]], names: Sequence[str]) -> Iterator[Text]:
    """Yield the words of every finding that passed."""
    for name in names:
        for found in groups[name]:
            if found.status == "passed" and found.what:
                yield Text(f"      {name}, {found.path or THE_MODEL}: {found.what}", "dim")


def _advice(groups: Mapping[str, Sequence[Finding]], names: Sequence[str]) -> Iterator[str]:
    """Yield the advice of examinations that hold."""
    for name in names:
        for found in groups[name]:
            if found.status == "passed" and found.fix:
                if found.path:
                    yield f"{found.path}: {found.what}"
                yield from found.fix.splitlines()


def _remark(good: Sequence[Finding], page: Page) -> str:
    """Return the remark on the whole model, or on the only site; empty for several sites."""
    whole = good if len(good) == 1 else [found for found in good if not found.path]
    if page.verbose or len(whole) != 1 or not whole[0].what:
        return ""
    return "; ".join(filter(None, (whole[0].path, whole[0].what)))


def _failures(
    groups: Mapping[str, Sequence[Finding]],
    listed: Sequence[Finding | None],
    sites: Sequence[str],
) -> Iterator[Text]:
    """Yield the failures, each examination on its own lines."""
    for name, group in groups.items():
        failed = [found for found in group if found.status == "failed"]
        if failed:
            good = [found.path for found in group if found.status == "passed"]
            yield Text.assemble(BAD, f"{name}: {_failed_places(failed, good, sites)}")
        for found in failed:
            if found not in listed:  # otherwise the end of the report shows it
                yield _failed(found)


def _skipped(groups: Mapping[str, Sequence[Finding]]) -> Iterator[Text]:
    """Yield the skipped examinations; those with the same reason share a line."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, group in groups.items():
        alike: dict[str, list[Finding]] = {}
        for found in group:
            if found.status == "skipped":
                alike.setdefault(found.what, []).append(found)
        for reason, found_at in alike.items():
            reasons.setdefault((_places(found_at), reason), []).append(name)
    for (places, reason), names in reasons.items():
        why = f": {reason}" if reason else ""
        yield Text(f"skipped {', '.join(names)}, {places}{why}", "dim")


def _failed(found: Finding) -> Text:
    said = Text(f"      {found.path or THE_MODEL}: ").append(found.what, "bold")
    if found.fix:
        said.append(f"\n        fix: {found.fix}")
    return said


def _failed_places(failed: Sequence[Finding], good: Sequence[str], sites: Sequence[str]) -> str:
    """Return the places that fail: each counts once, of how many sites where others hold.

    A module inside a site is that site.
    """
    places = dict.fromkeys(_site_of(found.path, sites) for found in failed)
    held = [path for path in dict.fromkeys(good) if path and path not in places]
    if held and "" not in places:
        return f"{len(places)} of {len(places) + len(held)} sites"
    return _places([Finding("", path, "failed") for path in places])


def _site_of(path: str, sites: Sequence[str]) -> str:
    return next((site for site in sites if f"{path}.".startswith(f"{site}.")), path)


def _places(found: Sequence[Finding]) -> str:
    """Return the place of findings: a path, a number of sites, the model."""
    paths = [one.path for one in found if one.path]
    sites = f"{len(paths)} sites" if len(paths) > 1 else "".join(paths)
    passes = len(found) - len(paths)
    whole = "" if not passes else "the model" if passes == 1 or paths else f"{passes} passes"
    return " and ".join(filter(None, (sites, whole)))

"""Every pass and every examination that holds, for `--verbose`; what does not, is elsewhere."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from modswap.core.decided.verdict import CaseVerdict, Verdict
from modswap.core.finding import THE_MODEL, Finding
from modswap.report.page import Page
from modswap.report.terminal.layout import wrapped

GOOD, BAD = ("holds ", "green"), ("fails ", "bold red")


def verification(verdict: Verdict, page: Page) -> Iterator[Text]:
    """Yield lines on the passes, then on the examinations that hold."""
    for case in verdict.cases:
        yield from _case(case, page)
    groups: dict[str, list[Finding]] = {}
    for found in verdict.findings:
        if found.status == "passed":
            groups.setdefault(found.check, []).append(found)
    for name, group in groups.items():
        yield Text.assemble(GOOD, f"{name}: {_places(group)}")
        yield from _remarks(group, page)


def _case(case: CaseVerdict, page: Page) -> Iterator[Text]:
    before = "raised" if case.before is None else str(case.before)
    after = "raised" if case.after is None else str(case.after)
    shown = before if before == after else f"{before} → {after}"
    head = Text.assemble(GOOD if case.ok else BAD)
    yield from wrapped(head, f"{case.key}: model output {shown}", page)


def _remarks(group: Sequence[Finding], page: Page) -> Iterator[Text]:
    for found in group:
        if found.what:
            yield from wrapped(Text("      "), f"{found.path or THE_MODEL}: {found.what}", page)


def _places(found: Sequence[Finding]) -> str:
    """Return the place of findings: a path, a number of sites, the model."""
    paths = [one.path for one in found if one.path]
    sites = f"{len(paths)} sites" if len(paths) > 1 else "".join(paths)
    passes = len(found) - len(paths)
    whole = "" if not passes else THE_MODEL if passes == 1 or paths else f"{passes} passes"
    return " and ".join(filter(None, (sites, whole)))

"""The table of sites: one line each where that fits the page."""

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from modswap.report.page import Page, change_parts
from modswap.report.summary.sites import SiteLine
from modswap.report.terminal.layout import columns, columns_width, unbroken

MAX_LINES = 16  # of a report that is not verbose
HEAD = ("site", "old → new", "shape", "parameters")
# exact or short parameters, full or short shapes, the widest first
FORMS = ((True, True), (False, True), (False, False))
Rows = list[list[Text]]


def site_table(lines: Sequence[SiteLine], page: Page) -> Iterator[Text]:
    """Yield the lines of the table in the widest form that fits the page."""
    shown = lines if page.verbose else lines[:MAX_LINES]
    titles = HEAD if _shaped(shown) else (*HEAD[:2], HEAD[3])
    head = [Text(page.said(title), "dim") for title in titles]
    starts = [[_path(line, page), _change(line, page)] for line in shown]
    forms = ([head, *_joined(starts, numbers)] for numbers in _forms(shown, page))
    rows = _first_fitting(forms, page)
    yield from columns(rows, right=[len(titles) - 1]) if rows else _grouped(shown, page)
    left = sum(line.count for line in lines[len(shown) :])
    if left:
        yield Text(page.said(f"… and {left:,} more sites: -v lists them"), "dim")


def _grouped(lines: Sequence[SiteLine], page: Page) -> Iterator[Text]:
    """Yield each change with its sites below it, each on a line, or its numbers on the next."""
    groups: dict[str, list[SiteLine]] = {}
    for line in lines:
        groups.setdefault(_change(line, page).plain, []).append(line)
    for group in groups.values():
        yield unbroken(_change(group[0], page))
        starts = [[Text(), _path(line, page)] for line in group]
        rows = _first_fitting((_joined(starts, n) for n in _forms(group, page)), page)
        if rows:
            yield from columns(rows, right=[len(rows[0]) - 1])
            continue
        for start, numbers in zip(starts, next(_forms(group, page)), strict=True):
            yield from columns([start])
            yield from columns([[Text(), Text(), *numbers]])


def _forms(lines: Sequence[SiteLine], page: Page) -> Iterator[Rows]:
    """Yield the cells of shapes, where there are any, and parameters in each form."""
    for exact, full in FORMS:
        params = [[line.params if exact else line.short_params] for line in lines]
        shapes = [[line.shape if full else line.short_shape] for line in lines]
        pairs = zip(shapes, params, strict=True) if _shaped(lines) else ((p,) for p in params)
        yield [[Text(page.said(one)) for part in parts for one in part] for parts in pairs]


def _shaped(lines: Sequence[SiteLine]) -> bool:
    return any(line.shape for line in lines)


def _joined(starts: Rows, ends: Rows) -> Rows:
    return [[*start, *end] for start, end in zip(starts, ends, strict=True)]


def _first_fitting(forms: Iterable[Rows], page: Page) -> Rows:
    """Return the first rows that fit the page; empty if none do."""
    return next((rows for rows in forms if columns_width(rows) <= page.width), [])


def _path(line: SiteLine, page: Page) -> Text:
    return Text(page.said(line.path), "bold")


def _change(line: SiteLine, page: Page) -> Text:
    old, new, where = map(page.said, change_parts(line.site))
    return Text.assemble(old, (new, "green"), where)

"""The differences between two checkpoints as a page of HTML."""

from dataclasses import replace

from modswap.core.kept.difference import DiffResult
from modswap.report.difference.distances import TITLES, distance_row, ranked
from modswap.report.difference.table import difference_lines, far_apart, last_line
from modswap.report.page import Page, human_bytes
from modswap.report.tamed import tamed

SHOWN_LINES = 5000  # of differences, and of distances
IN_SHORT = 6  # lines at the top


def diff_html(found: DiffResult, page: Page) -> str:
    """Return a difference as a page: the verdict and the counts first, then all that differs."""
    # its import takes a tenth of a second, which the other forms do not need
    from modswap.report.web.again import shell_line
    from modswap.report.web.frame import framed

    found = tamed(found)
    pairs = far_apart(found)
    by_name = {pair.a: pair for pair in pairs}
    # many tensors of one kind are one line where there are very many
    verbose = len(found.pairs) + len(found.added) + len(found.removed) <= SHOWN_LINES
    lines = list(difference_lines(found, replace(page, verbose=verbose)))
    short = list(difference_lines(found, replace(page, verbose=False)))
    words = (found.a.file, found.b.file, *(["--only", found.part] if found.part != "all" else []))
    line = shell_line("modswap", "diff", *words, "--format", "json")
    verdict, _, counts = last_line(found).plain.partition("  ")
    return framed(
        "difference.html",
        title=f"modswap diff: {found.a.file}, {found.b.file}",
        found=found,
        verdict=verdict.capitalize(),
        counts=counts,
        sides=[
            ("A", found.a, human_bytes(found.a.nbytes)),
            ("B", found.b, human_bytes(found.b.nbytes)),
        ],
        short=short[:IN_SHORT],
        more=len(short) > IN_SHORT,
        lines=lines[:SHOWN_LINES],
        titles=TITLES,
        distances=[distance_row(group, by_name) for group in ranked(pairs)[:SHOWN_LINES]],
        again=line,
    )

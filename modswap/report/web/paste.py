"""A paragraph and a table about a swap, ready for a paper or a pull request."""

from collections.abc import Iterator, Sequence

from modswap.core.kept.outcome import Outcome
from modswap.core.version import __version__
from modswap.core.words.printable import tame
from modswap.report.github import markdown
from modswap.report.web.costs import Cost, costs
from modswap.report.web.frame import short
from modswap.report.web.sites import SiteEntry, site_entries

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "→": r"$\rightarrow$", "×": r"$\times$", "\N{MINUS SIGN}": "$-$", "<": r"$<$", ">": r"$>$",
    "–": "--", "…": r"\ldots{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}",
}  # fmt: skip
_HEADS = ("site", "old → new", "parameters")
_NUMBERS = ("", "before", "after", "change")


def as_markdown(outcome: Outcome) -> str:
    """Return a paragraph and two tables in Markdown."""
    lines = [markdown(sentence(outcome)), ""]
    lines += _markdown_table(_HEADS, _sites(site_entries(outcome)))
    lines += ["", *_markdown_table(_NUMBERS, _costs(costs(outcome)))]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(heads)} |"
        yield f"| --- | {' | '.join(['---:'] * (len(heads) - 1))} |"
    for row in rows:
        yield f"| {' | '.join(map(markdown, row))} |"


def as_latex(outcome: Outcome) -> str:
    """Return a paragraph and two tables in LaTeX, without packages."""
    lines = [latex(sentence(outcome)), ""]
    lines += _latex_table(_HEADS, _sites(site_entries(outcome)))
    lines += ["", *_latex_table(_NUMBERS, _costs(costs(outcome)))]
    return "\n".join(lines).rstrip() + "\n"


def _latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}"
    yield rf"\hline {' & '.join(map(latex, heads))} \\ \hline"
    for row in rows:
        yield rf"{' & '.join(map(latex, row))} \\"
    yield r"\hline"
    yield r"\end{tabular}"


def latex(text: str) -> str:
    """Return a text that LaTeX shows as it is, and that is no command."""
    return "".join(_LATEX.get(character, character) for character in tame(text))


def sentence(outcome: Outcome) -> str:
    """Return the swap in a few sentences."""
    if not outcome.sites and not outcome.ok:
        errors = outcome.error.all if outcome.error is not None else ()
        why = "".join(f" ({one.where}: {one.what})" for one in errors[:1])
        said = f"In {short(outcome.checkpoint)}, the swap does not hold{short(why, 400)}."
        return f"{said} Measured with modswap {__version__}."
    count = len(outcome.sites)
    places = f"{count} module{'s' if count != 1 else ''} ({_named(outcome, new=False)})"
    new = _named(outcome, new=True)
    beside = any(site.place for site in outcome.sites)
    done = f"{new} was put in beside {places}" if beside else f"{new} replaces {places}"
    held = "every check of the swap holds" if outcome.ok else "the swap does not hold"
    numbers = "; ".join(_cost_words(one) for one in costs(outcome) if one.after)
    found = f" {numbers[:1].upper()}{numbers[1:]}." if numbers else ""
    said = f"In {short(outcome.checkpoint)}, {done}; {held}.{found}"
    return f"{said} Measured with modswap {__version__}."


def _cost_words(one: Cost) -> str:
    if not one.before:
        return " ".join(filter(None, (one.name, one.after, one.change)))
    change = f" ({one.change})" if one.change else ""
    return f"{one.name} {one.before} → {one.after}{change}"


def _named(outcome: Outcome, *, new: bool) -> str:
    names = [entry.new if new else entry.old for entry in site_entries(outcome)]
    return ", ".join(dict.fromkeys(short(name) or "nothing" for name in names))


def _sites(entries: Sequence[SiteEntry]) -> list[tuple[str, ...]]:
    return [(short(entry.name), short(entry.change), entry.params) for entry in entries]


def _costs(rows: Sequence[Cost]) -> list[tuple[str, ...]]:
    return [(one.name, one.before, one.after, one.change) for one in rows if one.after]

"""Recognise the texts that modswap writes, so that a text replaces its own kind alone."""

import re
from collections.abc import Callable, Mapping

REPORT, RECIPE_TEXT, LOCK, SUMMARY = "report", "recipe", "lock file", "summary"
DRAWING = "drawing"

_LINE = re.MULTILINE
# of every form of a report, a piece that no other program writes
_REPORTS = (
    # tables: of `check` and `replace`, `verify`, `sweep`, `diff`, `tree`, `catalogue` (with NAME)
    re.compile(r"^(OK  the swap of \d|OK  \d+ sites? \w+ |FAILED  \S)", _LINE),
    re.compile(r"^OK  .*: (no stage brought it nearer|broken off before anything)", _LINE),
    re.compile(r"^compared  [\d,]+ (file|tensor|record)s?\b", _LINE),
    re.compile(r"^(OK|STOPPED)  \d+ of \d+ trials measured in ", _LINE),
    re.compile(r"^(EQUAL|DIFFERENT)  [\d,]+ (tensor|module|other value)", _LINE),
    re.compile(r"^total [\d,]+ parameters, each once, \d", _LINE),
    re.compile(r"\Apath +class +(input → output +)?parameters +size$", _LINE),
    re.compile(r"\Aname +what it does +source$", _LINE),
    re.compile(r"^FLOPs +\S.*^memory +\S.*^option +type +default +meaning$", _LINE | re.DOTALL),
    # JSON: of outcomes and comparisons, `tree`, `catalogue`, `schema`
    re.compile(r'\A\s*\[?\s*\{\s*("schema":\s*\d+\s*,\s*)?"modswap":\s*"'),
    re.compile(
        r'\A\s*\{\s*("schema":\s*\d+,\s*)?"file":\s*".*",\s*"format":\s*".*",\s*"notes":\s*\['
    ),
    re.compile(r'\A\s*\[\s*\{\s*"name":\s*".*",\s*"summary":\s*".*",\s*"source":\s*"'),
    re.compile(r'"title":\s*"modswap (recipe|report)"'),
    # an explained pass: text and Markdown, in both languages, and HTML
    re.compile(r"FLOP\s+[\d,]+(\s+=\s+torch's\s+own|，\s*与\s*torch)"),
    re.compile(r'<meta name="generator" content="modswap[ "]'),
    re.compile(r'\A\s*\{\s*"label":\s*".*",\s*"graphs":\s*\['),  # for Model Explorer
    # changes of code: a diff that brings a module of the catalogue in, and Markdown
    re.compile(r"\A--- \S[^\n]*\n\+\+\+ \S.*?^\+(from|import) modswap\b", _LINE | re.DOTALL),
    re.compile(r"^- `OK  \d+ sites? in \d", _LINE),
    # for servers of CI, and the page of the catalogue
    re.compile(r'\A\s*<\?xml[^>]*\?>\s*<testsuites\s+name="modswap"'),
    re.compile(r'"driver":\s*\{\s*"name":\s*"modswap"'),
    re.compile(r"^(::error .*\btitle=modswap |(holds|FAILED): modswap )", _LINE),
    re.compile(r"^What a rule's `with` may name\. Printed by `modswap catalogue", _LINE),
)
_KEY = r"""["']?(version|checkpoint|allow|seed|model|inputs|replace|insert|verify)["']?\s*:"""
# of a recipe: what begins a line, in YAML and in one pair of braces, and the lists of its rules
_RECIPE_LINE = re.compile(rf"[\s#\-\]}}]|\.\.\.|{_KEY}|\{{\s*({_KEY}|#|$)")
_RULES = re.compile(r"""(^|[{,]\s*)["']?(replace|insert)["']?\s*:""", _LINE)
_LOCK = re.compile(r'\A\s*\{\s*("version":\s*\d+\s*,\s*)?"recipes":')
_DATA = re.compile(r"\s*[\[{<]")  # JSON, XML and pages


def _is_report(text: str) -> bool:
    return any(form.search(text) for form in _REPORTS)


def _is_recipe(text: str) -> bool:
    """Return whether all that is not indented is of a recipe, with a list of rules."""
    lines = (line for line in text.split("\n") if line)
    return _RULES.search(text) is not None and all(map(_RECIPE_LINE.match, lines))


def _may_be_summary(text: str) -> bool:
    """Return whether a text may be Markdown: other programs add to a job's summary as well."""
    return _DATA.match(text) is None


_KINDS: Mapping[str, Callable[[str], bool]] = {
    REPORT: _is_report,
    RECIPE_TEXT: _is_recipe,
    LOCK: lambda text: _LOCK.match(text) is not None,
    SUMMARY: _may_be_summary,
    DRAWING: lambda text: "<metadata>modswap " in text,
}


def may_replace(kind: str, text: str) -> bool:
    """Return whether a text of a kind may take the place of an existing text, or be added to it.

    An empty text is of every kind. Reports of all forms, and of earlier versions, are one kind.
    Of a long text its beginning and its end are enough.
    """
    return not text.strip() or _KINDS[kind](text)

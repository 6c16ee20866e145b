"""Outcomes for GitHub Actions: annotations in the log, and a summary of the job in Markdown."""

from collections.abc import Iterator, Sequence

from modswap.core.kept.outcome import Outcome
from modswap.core.words.printable import tame, without_commands
from modswap.report.checks import (
    Fault,
    Place,
    checks_of,
    counts_of,
    faults_of,
    file_name,
    sentences_of,
)
from modswap.report.page import Page, change_words, params_words

# the JSON report holds longer lists; GitHub drops a step's summary of more than 1 MiB
MAX_ROWS = 200
MAX_SUMMARY_BYTES = 900_000
_DATA = "%\r\n"  # characters that end a command or escape others
_PROPERTY = "%\r\n:,"
_MARKS = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "*_[]~"},
        **{mark: f"&#{ord(mark)};" for mark in "&<>\\`|@#!$"},
    }
)


def github_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return a workflow command for each failure, and a line on each outcome.

    The runner takes no text from a file for a command.
    """
    del page
    lines = []
    for outcome in outcomes:
        lines += [_command(fault) for fault in faults_of(outcome)]
        mark = "holds" if outcome.ok else "FAILED"
        line = f"{mark}: {_title(outcome)}: {_counted(outcome)}"
        lines.append(without_commands(line))
    return "\n".join(lines) + "\n"


def github_summary(outcomes: Sequence[Outcome]) -> str:
    """Return the summary of a job, in Markdown."""
    texts: list[str] = []
    left = MAX_SUMMARY_BYTES
    for number, outcome in enumerate(outcomes):
        text = "\n".join(_summary(outcome))
        left -= len(text.encode())
        if left < 0:
            texts.append(f"… and {len(outcomes) - number} more: see the log, or the JSON.")
            break
        texts.append(text)
    return "\n".join(texts).rstrip("\n") + "\n"


def _command(fault: Fault) -> str:
    keys = {}
    if fault.place is not None:
        keys["file"] = file_name(fault.place)
        keys |= {"line": str(fault.place.line)} if fault.place.line else {}
        keys |= {"col": str(fault.place.column)} if fault.place.column else {}
    keys["title"] = tame(f"modswap {fault.finding.check}: {fault.about}")
    shown = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in keys.items())
    return f"::error {shown}::{_escaped(fault.text, _DATA)}"


def _escaped(text: str, wild: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in wild else char for char in text)


def _title(outcome: Outcome) -> str:
    names = [tame(name) for name in (outcome.recipe, outcome.checkpoint) if name]
    return f"modswap {outcome.command} {', '.join(names)}".rstrip()


def _counted(outcome: Outcome) -> str:
    counts = counts_of(checks_of(outcome))
    shown = [f"{count} {status}" for status, count in counts.items() if count]
    return ", ".join(shown) or "nothing was checked"


def _summary(outcome: Outcome) -> Iterator[str]:
    yield f"### {'✅' if outcome.ok else '❌'} {markdown(_title(outcome))}"
    yield ""
    yield f"{_counted(outcome)}."
    yield ""
    yield from _table(
        ("module", "what does not hold", "fix", "where"),
        [
            (fault.about, fault.finding.what, fault.finding.fix, _where(fault.place))
            for fault in faults_of(outcome)
        ],
    )
    yield from _table(
        ("site", "old → new", "parameters", "rule"),
        [
            (
                site.path,
                change_words(site),
                params_words(site),
                site.rule,
            )
            for site in outcome.sites
        ],
    )
    yield from _table(("check", "holds", "failed", "skipped", "what is checked"), _rows(outcome))


def _rows(outcome: Outcome) -> list[tuple[str, ...]]:
    rows = []
    checks, sentences = checks_of(outcome), sentences_of([outcome])
    for name in dict.fromkeys(check.name for check in checks):
        counts = counts_of([check for check in checks if check.name == name])
        rows.append((name, *(str(count) for count in counts.values()), sentences[name]))
    return rows


def _where(place: Place | None) -> str:
    if place is None:
        return ""
    numbers = (str(number) for number in (place.line, place.column) if number)
    return ":".join((file_name(place), *numbers))


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(names)} |"
    yield f"|{' --- |' * len(names)}"
    for row in rows[:MAX_ROWS]:
        yield f"| {' | '.join(map(markdown, row))} |"
    yield ""
    if len(rows) > MAX_ROWS:
        yield f"… and {len(rows) - MAX_ROWS} more."
        yield ""


def markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: no HTML, no marks, links or mentions."""
    shown = tame(text).translate(_MARKS)
    return shown.replace("www.", "www&#46;").replace("://", "&#58;//")

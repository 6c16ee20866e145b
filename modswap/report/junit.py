"""Outcomes as JUnit XML, which CI servers show as tests."""

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from modswap.core.kept.outcome import Outcome
from modswap.core.version import __version__
from modswap.core.words.printable import tame, without_commands
from modswap.report.checks import Check, checks_of, counts_of, file_name
from modswap.report.page import Page, change_words


def junit_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return a test suite for each outcome, in one document; the page has no effect."""
    del page
    root = ElementTree.Element("testsuites", name="modswap")
    root.extend(_suite(outcome) for outcome in outcomes)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(outcome.seconds for outcome in outcomes):.3f}")
    ElementTree.indent(root)
    body = without_commands(ElementTree.tostring(root, encoding="unicode"))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _suite(outcome: Outcome) -> ElementTree.Element:
    checks = checks_of(outcome)
    counts = counts_of(checks)
    broken = sum(check.broken for check in checks)
    names = [tame(name) for name in (outcome.recipe, outcome.checkpoint) if name]
    suite = ElementTree.Element(
        "testsuite",
        name=f"modswap {outcome.command}: {', '.join(names)}",
        tests=str(len(checks)),
        failures=str(counts["failed"] - broken),
        errors=str(broken),
        skipped=str(counts["skipped"]),
        time=f"{outcome.seconds:.3f}",
    )
    suite.append(_properties(outcome))
    seen: Counter[tuple[str, str]] = Counter()
    for check in checks:
        key = (check.name, check.subject)
        seen[key] += 1
        suite.append(_case(check, seen[key]))
    return suite


def _properties(outcome: Outcome) -> ElementTree.Element:
    facts = {
        "modswap": __version__,
        "checkpoint": outcome.checkpoint,
        "recipe": outcome.recipe,
        "params.before": str(outcome.params_before),
        "params.after": str(outcome.params_after),
    }
    for site in outcome.sites:
        facts[f"site.{site.new_path or site.path}"] = f"{change_words(site)} ({site.rule})"
    found = ElementTree.Element("properties")
    for name, value in facts.items():
        ElementTree.SubElement(found, "property", name=tame(name), value=tame(value))
    return found


def _case(check: Check, turn: int) -> ElementTree.Element:
    """Return a test case; a repeated name is numbered, as servers merge tests of one name."""
    name = tame(check.subject) + (f" #{turn}" if turn > 1 else "")
    case = ElementTree.Element("testcase", classname=f"modswap.{check.name}", name=name)
    place = next((fault.place for fault in check.faults if fault.place is not None), None)
    if place is not None:
        case.set("file", file_name(place))
    if place is not None and place.line:
        case.set("line", str(place.line))
    if check.status == "skipped":
        ElementTree.SubElement(case, "skipped", message=tame(check.reason))
    elif check.faults:
        case.append(_failure(check))
    elif check.reason:
        ElementTree.SubElement(case, "system-out").text = check.reason
    return case


def _failure(check: Check) -> ElementTree.Element:
    first, *more = check.faults
    others = f" (and {len(more)} more)" if more else ""
    found = ElementTree.Element("error" if check.broken else "failure", type=first.finding.check)
    found.set("message", tame(f"{first.about}: {first.finding.what}{others}"))
    found.text = "\n".join(fault.text for fault in check.faults)
    return found

"""Reports for CI servers: their look, read back by other programs, numbers summed.

Covers: checks, github, junit, sarif, __init__.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import sarif_pydantic
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt

from modswap.core import errors
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import DriftError, ModswapError, UsageError
from modswap.core.kept.outcome import Outcome
from modswap.report import REPORTS
from modswap.report.checks import ABOUT, Place, checks_of, faults_of, place_of, sentences_of
from modswap.report.github import MAX_ROWS, github_summary
from modswap.report.page import Page
from tests.report import outcomes
from tests.report.sarif_schema import SCHEMA

OTHER = replace(outcomes.CHECKED, recipe="configs/other.yaml")
SEVERAL = (OTHER, outcomes.EXAMINED, outcomes.MISMATCHED)
CASES: dict[str, Sequence[Outcome]] = {
    "done": [outcomes.DONE],
    "failed": [outcomes.FAILED],
    "examined": [outcomes.EXAMINED],
    "held": [outcomes.HELD],
    "mismatched": [outcomes.MISMATCHED],
    "refused": [outcomes.REFUSED],
    "several": SEVERAL,
    "nasty": [outcomes.NASTY],
}


def unversioned(text: str) -> str:
    text = re.sub(r'"version": "(?!2\.1\.0)[^"]+"', '"version": "X"', text)
    return re.sub(r'name="modswap" value="[^"]+"', 'name="modswap" value="X"', text)


def sarif(*told: Outcome) -> Any:
    return json.loads(REPORTS["sarif"](told, Page()))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form", ["junit", "sarif", "github"])
def test_report_looks_as_expected(form: str, name: str, golden: Callable[[str, str], None]) -> None:
    endings = {"junit": "junit.xml", "sarif": "sarif", "github": "github.txt"}

    golden(f"{name}.{endings[form]}", unversioned(REPORTS[form](CASES[name], Page())))


@pytest.mark.parametrize("name", CASES)
def test_summary_looks_as_expected(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.summary.md", github_summary(CASES[name]))


def test_an_examination_is_described_by_the_sentence_of_its_row() -> None:
    [run] = sarif(outcomes.EXAMINED)["runs"]

    told = {rule["id"]: rule["shortDescription"]["text"] for rule in run["tool"]["driver"]["rules"]}
    assert told["finite"] == "New modules run on real values, and their outputs are finite."
    assert "| finite | 0 | 0 | 2 | new modules run" in github_summary([outcomes.EXAMINED])


# -- places


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ("other.yaml:3:9", Place("other.yaml", 3, 9)),
        ("other.yaml:3", Place("other.yaml", 3)),
        ("C:/a b/swap.yaml:7:5", Place("C:/a b/swap.yaml", 7, 5)),
        ("space_attention", Place("configs/unetpp_bra.yaml", 15, 5)),
        ("space_attention.proj.0", Place("configs/unetpp_bra.yaml", 15, 5)),
        ("space_attention2", Place("configs/unetpp_bra.yaml")),
        ("", Place("configs/unetpp_bra.yaml")),
        ("--input", Place("configs/unetpp_bra.yaml")),
    ],
)
def test_place_is_that_of_the_rule_else_the_recipe(where: str, place: Place) -> None:
    assert place_of(where, outcomes.EXAMINED) == place


def test_place_of_anything_is_the_only_rule() -> None:
    assert place_of("head", outcomes.FAILED) == Place("configs/unetpp_bra.yaml", 11, 5)


def test_recipe_from_standard_input_is_no_place() -> None:
    typed = replace(outcomes.EARLY, recipe="<stdin>")

    assert place_of("<stdin>:3:1", typed) == Place("net.pt")
    assert place_of("-", replace(typed, checkpoint="")) is None


# -- checks and faults


def test_errors_of_the_verdict_are_reported_once() -> None:
    faults = faults_of(outcomes.FAILED)

    assert [fault.finding.path for fault in faults] == ["head", ""]
    assert {fault.finding.check for fault in faults} == {"pass"}


def test_error_behind_a_verdict_that_holds_is_reported() -> None:
    late = replace(outcomes.DONE, error=UsageError("no room", "out.pt"))

    checks = checks_of(late)

    assert [(one.name, one.status, one.broken) for one in checks] == [
        ("pass", "passed", False),
        ("usage", "failed", True),
    ]


def test_drift_from_the_lock_file_has_a_check_of_its_own() -> None:
    drifted = replace(outcomes.CHECKED, error=DriftError("torch version was 2, is 3", "swap.yaml"))

    junit = JUnitXml.fromstring(REPORTS["junit"]([drifted], Page()).encode())
    classes = [case.classname for suite in junit for case in suite]
    results = sarif(drifted)["runs"][0]["results"]
    command = REPORTS["github"]([drifted], Page()).splitlines()[0]
    summary = github_summary([drifted])

    assert classes[-1] == "modswap.lock"
    assert [result["ruleId"] for result in results] == ["lock"]
    assert "title=modswap lock%3A" in command
    assert "| lock | 0 | 1 | 0 | recipe, file, versions and sites are those of the lock" in summary
    assert "another kind" not in summary


def test_every_kind_of_error_has_a_check_that_is_described() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    names = {kind.check for kind in kinds if issubclass(kind, ModswapError)}

    assert {"other", "lock", "fit", "limits"} <= names <= ABOUT.keys()


def test_error_that_says_no_place_is_about_the_checkpoint() -> None:
    def about(outcome: Outcome) -> str:
        return faults_of(outcome)[0].about

    assert about(replace(outcomes.DONE, verdict=None, error=ModswapError("odd"))) == "unetpp.pt"
    assert about(Outcome("check", "", "", error=UsageError("odd"))) == "the model"


# -- JUnit


@pytest.mark.parametrize("name", CASES)
def test_junit_is_read_by_another_program_and_its_numbers_add_up(name: str) -> None:
    text = REPORTS["junit"](CASES[name], Page())
    read = JUnitXml.fromstring(text.encode())
    suites = list(read)
    cases = [case for suite in suites for case in suite]
    results = [result for case in cases for result in case.result]
    checks = [check for outcome in CASES[name] for check in checks_of(outcome)]

    assert len(suites) == len(CASES[name])
    assert len(cases) == len(checks) == read.tests == sum(suite.tests for suite in suites)
    for kind, total in ((Failure, read.failures), (Error, read.errors), (Skipped, read.skipped)):
        assert total == sum(isinstance(result, kind) for result in results)
    passed = sum(check.status == "passed" for check in checks)
    assert passed + read.failures + read.errors + read.skipped == read.tests
    assert len({(suite.name, case.classname, case.name) for suite in suites for case in suite}) == (
        len(cases)
    )


def test_junit_failure_says_what_with_both_sides_and_the_fix() -> None:
    root = ElementTree.fromstring(REPORTS["junit"]([outcomes.FAILED], Page()))
    failure = root.find("testsuite/testcase/failure")

    assert failure is not None
    assert failure.get("message", "").endswith("is now (1, 2, 112, 112) (and 1 more)")
    assert str(failure.text).splitlines() == [
        "head: output was (1, 2, 224, 224), is now (1, 2, 112, 112)",
        "fix: set `adapt: true`",
        "the model: output was (1, 2, 224, 224), is now (1, 2, 112, 112)",
    ]


def test_junit_has_a_test_for_each_site_and_check() -> None:
    root = ElementTree.fromstring(REPORTS["junit"]([outcomes.EXAMINED], Page()))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]

    assert ("modswap.reached", "space_attention") in names
    assert ("modswap.pass", "(1, 3, 224, 224) eval float32") in names
    assert ("modswap.matrix", "the model #2") in names


# -- SARIF


@pytest.mark.parametrize("name", CASES)
def test_sarif_keeps_to_the_standard_and_is_read_by_another_program(name: str) -> None:
    data = sarif(*CASES[name])
    jsonschema.validate(data, SCHEMA, jsonschema.Draft202012Validator)
    read = sarif_pydantic.Sarif.model_validate(data)

    faults = [fault for outcome in CASES[name] for fault in faults_of(outcome)]
    [run] = read.runs
    rules = run.tool.driver.rules or []
    results = run.results or []
    assert len(results) == len(faults)
    assert [rule.id for rule in rules] == list(sentences_of(CASES[name]))
    for result, fault in zip(results, faults, strict=True):
        assert result.rule_index is not None
        assert rules[result.rule_index].id == result.rule_id == fault.finding.check
    ended = [one["exitCode"] for one in data["runs"][0]["invocations"]]
    assert ended == [outcome.exit_code for outcome in CASES[name]]


def test_sarif_result_points_at_the_rule_of_its_site() -> None:
    [result] = sarif(outcomes.EXAMINED)["runs"][0]["results"]

    [location] = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "configs/unetpp_bra.yaml"},
        "region": {"startLine": 15, "startColumn": 5},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "space_attention"


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("a b/50%/ä:x.yaml", "a%20b/50%25/%C3%A4%3Ax.yaml"),
        ("/etc/my recipes/x.yaml", "file:///etc/my%20recipes/x.yaml"),
        ("../x.yaml", "../x.yaml"),
    ],
)
def test_sarif_names_files_by_uri(file: str, uri: str) -> None:
    told = Outcome("check", "net.pt", file, error=UsageError("what", f"{file}:2"))
    [result] = sarif(told)["runs"][0]["results"]

    physical = result["locations"][0]["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": uri}, "region": {"startLine": 2}}


def test_sarif_without_any_file_has_no_location() -> None:
    data = sarif(Outcome("check", "", "-", error=UsageError("what")))

    jsonschema.validate(data, SCHEMA)
    assert "locations" not in data["runs"][0]["results"][0]


def test_sarif_messages_hold_no_links_or_placeholders() -> None:
    for result in sarif(outcomes.NASTY)["runs"][0]["results"]:
        text = result["message"]["text"]

        assert not re.search(r"(?<!\\)\]\(", text)
        assert "{0}" not in text.replace("{{0}}", "")


# -- GitHub


def commands(text: str) -> list[tuple[dict[str, str], str]]:
    """Read workflow commands as the runner does."""

    def plain(shown: str) -> str:
        for code, char in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            shown = shown.replace(code, char)
        return shown

    found = []
    for line in text.splitlines():
        if line.lstrip().startswith("::"):
            head, _, message = line.lstrip()[2:].partition("::")
            name, _, keys = head.partition(" ")
            assert name == "error"
            pairs = (key.partition("=") for key in keys.split(","))
            found.append(({key: plain(value) for key, _, value in pairs}, plain(message)))
        else:
            assert "##[" not in line
    return found


@pytest.mark.parametrize("name", CASES)
def test_github_has_a_command_for_each_fault(name: str) -> None:
    faults = [fault for outcome in CASES[name] for fault in faults_of(outcome)]

    found = commands(REPORTS["github"](CASES[name], Page()))

    assert [message for _, message in found] == [fault.text for fault in faults]
    assert all(keys.keys() <= {"file", "line", "col", "title"} for keys, _ in found)


def test_github_command_names_the_line_of_the_rule() -> None:
    [(keys, message)] = commands(REPORTS["github"]([outcomes.EXAMINED], Page()))

    assert keys == {
        "file": "configs/unetpp_bra.yaml",
        "line": "15",
        "col": "5",
        "title": "modswap gradients: space_attention",
    }
    assert message.endswith("now 11 of 12 have\nfix: set `topk` above 0 in its args")


def test_github_command_without_any_file_says_what_all_the_same() -> None:
    bare = Outcome("check", "", "", error=UsageError("what"))

    lines = REPORTS["github"]([bare], Page()).splitlines()

    assert lines == [
        "::error title=modswap usage%3A the model::the model: what",
        "FAILED: modswap check: 1 failed",
    ]
    assert "| the model | what |  |  |" in github_summary([bare])
    nothing = replace(bare, error=None, verdict=Verdict((), finite=None))
    assert "nothing was checked" in github_summary([nothing])


@pytest.mark.parametrize("name", CASES)
def test_summary_is_markdown_whose_numbers_add_up(name: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(github_summary(CASES[name]))
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in (*tokens, *inline)}
    checks = [check for outcome in CASES[name] for check in checks_of(outcome)]

    assert kinds <= {
        "heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline", "text",
        "table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close",
        "tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close", "text_special",
    }  # fmt: skip
    cells = [t.content for t in tokens if t.type == "inline" and t.content.isdigit()]
    assert sum(map(int, cells)) == len(checks)


def test_summary_shows_wild_names_as_they_are() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(github_summary([outcomes.NASTY]))
    texts = ["".join(c.content for c in t.children or ()) for t in tokens if t.type == "inline"]
    rows = [text for text in texts if text.startswith("a]]><b>&\"'%0A%\\n::error")]

    assert rows
    assert all(re.search(r"\]\|`c`\[l\]\(http://?www\.x\)\{0\}", text) for text in rows)


def test_summary_has_an_end() -> None:
    sites = tuple(outcomes.site(f"blocks.{n}") for n in range(MAX_ROWS + 7))

    text = github_summary([replace(outcomes.DONE, sites=sites)])

    assert f"blocks.{MAX_ROWS - 1} " in text
    assert f"blocks.{MAX_ROWS} " not in text
    assert "… and 7 more." in text


@pytest.mark.parametrize("form", ["junit", "sarif", "github"])
def test_no_control_character_comes_through(form: str) -> None:
    text = REPORTS[form]([outcomes.NASTY], Page()) + github_summary([outcomes.NASTY])

    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff\uffff]", text)
    text.encode()


def test_summary_stays_below_what_github_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    one = github_summary([outcomes.FAILED])
    monkeypatch.setattr("modswap.report.github.MAX_SUMMARY_BYTES", 2 * len(one.encode()) + 10)

    text = github_summary([outcomes.FAILED] * 5)

    assert text.count("### ❌") == 2
    assert text.endswith("\n… and 3 more: see the log, or the JSON.\n")

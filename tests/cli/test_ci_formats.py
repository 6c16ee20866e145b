"""The real command with the reports that CI servers read."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from modswap.cli.app import run
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress
from modswap.ops.jobs.check import Request, check_one
from modswap.report import REPORTS
from tests.commands import Command, Ran
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

HEAD = (
    "version: 1\ncheckpoint: net.pt\nallow: ['tests.models.*']\n"
    f"inputs: [{{shape: [1, 3, 28, 28]}}]\n{UNEXAMINED}"
)
GOOD = f"{HEAD}replace:\n  - match: space_attention\n    with: BiLevelRoutingAttention\n"
LOST = f"{HEAD}replace:\n  - match: space_attentoin\n    with: BiLevelRoutingAttention\n"
HOLDS = "holds: modswap check good.yaml, net.pt: "
BAD = (
    "version: 1\ncheckpoint: net.pt\nallow: ['tests.models.*']\ninputs: [{shape: [2, 3, 28, 28]}]\n"
    "verify: {modes: [train]}\n"
    "replace:\n  - {match: head, with: 'tests.models:Moody', args: {out_channels: 2}}\n"
)


@pytest.fixture
def modswap(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command, in this process alone, in a folder that holds a checkpoint and recipes."""

    def check_here(requests: list[Request], jobs: int, progress: Progress) -> list[Outcome]:
        return [check_one(request, progress) for request in requests]

    monkeypatch.setattr("modswap.ops.jobs.check.check_many", check_here)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    torch.manual_seed(0)
    torch.save(GatedNet().eval(), "net.pt")
    for name, text in (("good", GOOD), ("lost", LOST), ("bad", BAD)):
        Path(f"{name}.yaml").write_text(text)

    def call(*args: str) -> Ran:
        code = run(args)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


ALL = ["check", "good.yaml", "bad.yaml", "lost.yaml"]


def test_help_names_every_report(modswap: Command) -> None:
    for command in ("check", "replace"):
        shown = "".join(modswap(command, "--help").out.split())  # lines break at hyphens

        assert all(form in shown for form in REPORTS)


def test_unknown_report_is_refused_with_the_nearest(modswap: Command) -> None:
    ran = modswap("check", "good.yaml", "--format", "sarfi")

    assert ran.code == 2
    assert "no report of the form 'sarfi'" in ran.err
    assert "sarif" in ran.err


def test_several_recipes_are_one_junit_document(modswap: Command) -> None:
    ran = modswap(*ALL, "--format", "junit")

    root = ElementTree.fromstring(ran.out)
    names = [suite.get("name") for suite in root]
    assert ran.code == 2
    assert names == [f"modswap check: {name}.yaml, net.pt" for name in ("good", "bad", "lost")]
    assert [suite.get("failures") for suite in root] == ["0", "1", "0"]
    assert [suite.get("errors") for suite in root] == ["0", "0", "1"]
    assert ran.err.startswith("error: head: ")


def test_several_recipes_are_one_sarif_run(modswap: Command) -> None:
    ran = modswap(*ALL, "--format", "sarif")

    [one] = json.loads(ran.out)["runs"]
    places = [
        (result["ruleId"], physical["artifactLocation"]["uri"], physical["region"]["startLine"])
        for result in one["results"]
        for physical in (result["locations"][0]["physicalLocation"],)
    ]
    assert places == [
        ("pass", "bad.yaml", 7),  # its site
        ("pass", "bad.yaml", 7),  # the model's output
        ("match", "lost.yaml", 7),
    ]
    assert [ended["exitCode"] for ended in one["invocations"]] == [0, 1, 2]


def test_github_annotates_and_adds_to_the_summary(
    modswap: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("summary.md").write_text("before\n\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")

    ran = modswap(*ALL, "--format", "github")

    lines = ran.out.splitlines()
    assert [line.partition(",col")[0] for line in lines if line.startswith("::")] == [
        "::error file=bad.yaml,line=7",
        "::error file=bad.yaml,line=7",
        "::error file=lost.yaml,line=7",
    ]
    assert any(line.startswith(HOLDS) for line in lines)
    assert ran.err == "", "what the runner reads as commands comes from the report alone"
    summary = Path("summary.md").read_text()
    assert summary.startswith("before\n\n### ✅ modswap check good.yaml, net.pt\n")
    assert summary.count("### ❌") == 2


def test_module_that_cannot_be_fitted_is_annotated_at_its_rule(modswap: Command) -> None:
    args = "{in_channels: 5, out_channels: 2, kernel_size: 1}"
    second = f"  - {{match: head, with: 'torch.nn:Conv2d', args: {args}}}\n"
    Path("two.yaml").write_text(GOOD + second)

    ran = modswap("check", "two.yaml", "--format", "github")

    assert ran.code == 1
    assert ran.out.startswith(f"::error file=two.yaml,line={GOOD.count(chr(10)) + 1},")


def test_github_works_without_a_summary(modswap: Command) -> None:
    ran = modswap("check", "good.yaml", "--format", "github")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(HOLDS)
    assert ran.out.count("\n") == 1


def test_summary_that_cannot_be_written_is_an_error(
    modswap: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", os.fspath(Path("no", "such", "folder.md")))

    ran = modswap("check", "good.yaml", "--format", "github")

    assert ran.code == 3
    assert "no/such/folder.md: the summary cannot be written: No such file or" in ran.out


@pytest.mark.parametrize("form", ["json", "junit", "sarif", "github", "html"])
def test_early_failure_is_reported_in_the_form_asked_for(modswap: Command, form: str) -> None:
    ran = modswap("replace", "gone.pt", "-c", "good.yaml", "--dry-run", "--format", form)

    assert ran.code == 3
    assert "gone.pt" in ran.out
    if form == "junit":
        assert ElementTree.fromstring(ran.out).get("errors") == "1"
    elif form == "sarif":
        assert json.loads(ran.out)["runs"][0]["results"][0]["ruleId"] == "checkpoint"
    elif form == "github":
        assert ran.out.startswith("::error file=good.yaml,title=modswap checkpoint%3A gone.pt::")
    assert (ran.err == "") == (form == "github")


def test_report_that_cannot_be_written_is_reported_once(modswap: Command) -> None:
    ran = modswap("check", "good.yaml", "--format", "sarif", "--report", "no/such/x.sarif")

    assert ran.code == 3
    assert ran.err.count("it cannot be written: No such file or directory") == 1


def test_error_and_report_that_cannot_be_written_are_both_reported(modswap: Command) -> None:
    Path("taken").mkdir()
    where = ["--format", "github", "--report", "taken"]

    ran = modswap("check", "gone.pt", "-c", "good.yaml", *where)

    assert ran.code == 3
    assert "error: gone.pt: " in ran.err
    assert "error: taken: it cannot be written" in ran.err


def test_nothing_is_printed_for_those_who_want_quiet(modswap: Command) -> None:
    assert modswap("check", "good.yaml", "good.yaml", "--quiet") == Ran(0, "", "")


def test_report_file_of_several_recipes_holds_all_of_it(modswap: Command) -> None:
    modswap("check", "good.yaml", "lost.yaml", "--report", "report.txt")

    text = Path("report.txt").read_text()
    assert "OK  the swap of 1 site by good.yaml holds" in text
    assert text.endswith("\n1 of 2 recipes hold\n")


def test_what_a_module_prints_stays_out_of_the_report(modswap: Command) -> None:
    loud = "{match: space_attention, with: 'tests.failing_models:Loud', args: {channels: 16}}"
    Path("loud.yaml").write_text(f"{HEAD}replace: [{loud}]\n")

    ran = modswap("check", "loud.yaml", "--format", "json")

    assert json.loads(ran.out)["ok"] is True, ran
    assert "running\n" in ran.err


def test_report_without_a_folder_is_reported_before_any_work(modswap: Command) -> None:
    Path("net.pt").unlink()

    ran = modswap("check", "good.yaml", "--report", "none/report.json")

    assert ran.code == 3
    assert "none/report.json: it cannot be written" in ran.err
    assert "net.pt" not in ran.err

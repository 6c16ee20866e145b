"""Advice that would pass, and `modswap check --fix`, by the real command."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import ModswapError, ShapeError
from modswap.core.progress import silent
from modswap.io.recipe.reader import read_recipe
from modswap.ops.jobs import repair
from modswap.ops.jobs.repair import Budget, Failed, check_and_repair, find_remedy
from modswap.ops.jobs.replace import check_file
from tests.models import ManyCalls, Strided, build_gated
from tests.recipes import UNEXAMINED

Check = Callable[..., tuple[int, str, str]]
STRIDED = f"""\
version: 1  # of the recipe
checkpoint: net.pt
allow: tests.models.*
inputs: [{{shape: [1, 8, 28, 28]}}]
{UNEXAMINED}replace:
  # the stage that halves the map
  - match: down
    with: SEBlock  # cheap
"""


def gated(rule: str) -> str:
    return (
        "version: 1\ncheckpoint: net.pt\nallow: tests.models.*\n"
        f"inputs: [{{shape: [1, 3, 28, 28]}}]\nreplace:\n  - {rule}\n{UNEXAMINED}"
    )


@pytest.fixture
def check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Check:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(
        *args: str, model: nn.Module | None = None, recipe: str = STRIDED
    ) -> tuple[int, str, str]:
        torch.manual_seed(0)
        torch.save(model or Strided(), "net.pt")
        Path("swap.yaml").write_text(recipe)
        code = run(["check", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_failure_says_what_would_pass_and_leaves_the_recipe_alone(check: Check) -> None:
    check("swap.yaml")  # the first check of a process takes long, and then nothing is offered

    code, _, err = check("swap.yaml")

    assert code == 1
    assert "in its rule\n  fix: would pass with: adapt: true (swap.yaml:10)\n" in err
    assert Path("swap.yaml").read_text() == STRIDED


def test_fix_changes_one_line_says_so_and_checks_again(check: Check) -> None:
    code, out, err = check("swap.yaml", "--fix")

    assert (code, err) == (0, "fixed: adapt: true (swap.yaml:10)\n")
    assert "the swap of 1 site by swap.yaml holds" in out
    assert Path("swap.yaml").read_text() == STRIDED + "    adapt: true\n"


def test_fix_of_what_holds_changes_nothing(check: Check) -> None:
    sound = STRIDED + "    adapt: true\n"

    assert check("swap.yaml", "--fix", recipe=sound)[::2] == (0, "")
    assert Path("swap.yaml").read_text() == sound


BRA = "with: BiLevelRoutingAttention"
GATES = '"{space,channel}_attention"'


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("rule", "fixed"),
    [
        (f"{{match: spase_attention, {BRA}}}", "match: space_attention (swap.yaml:6)"),
        (
            f"{{match: '(space|channel)_attention', {BRA}}}",
            'match: "re:(space|channel)_attention" (swap.yaml:6)',
        ),
        (f"{{match: {GATES}, {BRA}, args: {{num_heads: 5}}}}", "num_heads: 4 (swap.yaml:6)"),
        (
            f"{{match: {GATES}, {BRA}, args: {{n_win: 5, auto_pad: false}}}}",
            "auto_pad: true (swap.yaml:6)",
        ),
        (f"{{match: {GATES}, {BRA}, args: {{n_win: 2, topk: 9}}}}", "topk: 4 (swap.yaml:6)"),
        (f"{{match: {GATES}, {BRA}, args: {{dim: 8}}}}", "dim: auto (swap.yaml:6)"),
        pytest.param(
            f"{{match: {GATES}, {BRA}, args: {{num_heads: 5, dim: 8}}}}",
            "num_heads: 4 (swap.yaml:6), dim: auto (swap.yaml:6)",
            marks=[pytest.mark.slow, pytest.mark.ci],
        ),
    ],
)
def test_smallest_change_that_passes_is_made(check: Check, rule: str, fixed: str) -> None:
    code, _, err = check("swap.yaml", "--fix", model=build_gated(), recipe=gated(rule))

    # the error comes first where the search for the change takes long
    assert (code, err.splitlines()[-1]) == (0, f"fixed: {fixed}")
    assert run(["check", "swap.yaml", "-q"]) == 0


def test_site_that_is_never_called_is_left_out(check: Check) -> None:
    recipe = STRIDED.replace("match: down", 'match: ["unused", "mix.conv"]').replace(
        "8, 28", "4, 28"
    )

    code, _, err = check("swap.yaml", "--fix", model=ManyCalls(), recipe=recipe)

    assert (code, err) == (0, "fixed: exclude: [unused] (swap.yaml:10)\n")


@pytest.mark.parametrize("match", ["space_*x", "space"])
def test_what_is_meant_is_left_to_the_user(check: Check, match: str) -> None:
    wrong = gated(f"{{match: {GATES}, expect: 3, {BRA}}}")
    other = gated(f"{{match: '{match}', {BRA}}}")

    for recipe in (wrong, other):
        code, _, err = check("swap.yaml", "--fix", model=build_gated(), recipe=recipe)

        assert code == 2
        assert "fixed:" not in err
        assert Path("swap.yaml").read_text() == recipe


@pytest.mark.parametrize("name", ["SelfAtention", "SEBlok", "EMA"])
def test_name_of_a_module_is_never_changed(check: Check, name: str) -> None:
    recipe = gated(f"{{match: {GATES}, with: {name}}}")

    code, _, err = check("swap.yaml", "--fix", model=build_gated(), recipe=recipe)

    assert code == 2
    assert f"no module {name!r} in the catalogue" in err
    assert Path("swap.yaml").read_text() == recipe


def test_where_nothing_helps_that_is_said(check: Check) -> None:
    recipe = gated(f"{{match: zzz, {BRA}}}")

    code, _, err = check("swap.yaml", "--fix", model=build_gated(), recipe=recipe)

    assert code == 2
    assert "no module matches 'zzz'" in err
    assert "; no small change was found to pass" in err
    assert Path("swap.yaml").read_text() == recipe


def test_fault_that_no_recipe_mends_is_reported_as_it_is(check: Check) -> None:
    code, _, err = check("swap.yaml", "--fix", recipe=STRIDED.replace("tests.models.*", "a.B"))

    assert code == 4
    assert "pass" not in err


def test_verification_that_fails_is_mended_too(check: Check) -> None:
    rule = "{match: head, with: 'tests.models:Moody', args: {out_channels: 2}}"
    recipe = gated(rule).replace("[1, 3", "[2, 3").replace("skip", "modes: [train], skip")

    code, out, _ = check("swap.yaml", "--fix", model=build_gated(), recipe=recipe)

    assert code == 1
    assert "no small change was found to pass" in out


@pytest.mark.slow
def test_several_recipes_are_fixed_each_in_its_process(check: Check) -> None:
    Path("two.yaml").write_text(STRIDED)

    code, out, err = check("swap.yaml", "two.yaml", "--fix")

    assert code == 0
    assert "2 of 2 recipes hold" in out
    assert err == "fixed: adapt: true (swap.yaml:10)\nfixed: adapt: true (two.yaml:10)\n"


def test_standard_input_cannot_be_fixed(check: Check) -> None:
    code, _, err = check("net.pt", "-c", "-", "--fix")

    assert code == 2
    assert "standard input cannot be fixed" in err


@pytest.mark.parametrize(
    ("budget", "found"),
    [(Budget(100, 9), True), (Budget(100, 0), False), (Budget(0.5, 9), False)],
)
def test_search_ends_with_its_budget(check: Check, budget: Budget, found: bool) -> None:
    check("swap.yaml")
    recipe = read_recipe("swap.yaml")
    job = Job(Subject(Path("net.pt"), Policy(allow=("tests.models.*",))), recipe)
    with pytest.raises(ShapeError, match="adapt") as failed:
        check_file(job)

    remedy = find_remedy(job, Failed(failed.value, 1.0), budget)

    assert (remedy is not None) == found


@pytest.mark.parametrize("patience", [0.0, 1e9])
def test_error_is_said_before_a_search(
    check: Check, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(repair, "PATIENCE_SECONDS", patience)
    check("swap.yaml")
    recipe = read_recipe("swap.yaml")
    job = Job(Subject(Path("net.pt"), Policy(allow=("tests.models.*",))), recipe)
    said: list[ModswapError] = []

    with pytest.raises(ShapeError, match="would pass with: adapt: true"):
        check_and_repair(job, silent, fix=False, say=said.append)

    assert [("adapt: true" in one.fix, "would pass" in one.fix) for one in said] == [(True, False)]
    assert check_and_repair(job, silent, fix=True, say=said.append).error is None
    assert len(said) == (1 if patience else 2)  # what is mended at once is no error


@pytest.mark.one_in(3)
@pytest.mark.parametrize("form", ["table", "json", "github"])
def test_error_that_was_said_early_is_not_printed_again(check: Check, form: str) -> None:
    check("swap.yaml")

    code, _, err = check("swap.yaml", "--format", form)

    early = ["error: down: ", "  fix: set `adapt: true`", "  fix: would pass with: adapt: true"]
    lines = err.splitlines()
    assert code == 1
    assert len(lines) == (0 if form == "github" else 3)
    assert all(line.startswith(begin) for line, begin in zip(lines, early, strict=False))

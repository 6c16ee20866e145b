"""`modswap check --lock` and `--locked`, by the real command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modswap.cli.app import run
from tests.models import build_gated
from tests.recipes import UNEXAMINED

RECIPE = """\
version: 1
checkpoint: net.pt
allow: tests.models.*
inputs: [{shape: [1, 3, 28, 28]}]
replace: [{match: "{space,channel}_attention", with: BiLevelRoutingAttention}]
"""
RECIPE += UNEXAMINED
Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Check:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    torch.manual_seed(0)
    torch.save(build_gated(), "net.pt")
    Path("swap.yaml").write_text(RECIPE)
    Path("two.yaml").write_text(RECIPE + "seed: 3\n")

    def call(*args: str) -> tuple[int, str, str]:
        code = run(["check", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_what_is_locked_is_held(check: Check) -> None:
    assert check("swap.yaml", "--lock")[::2] == (0, "locked in modswap.lock\n")

    entry = json.loads(Path("modswap.lock").read_text())["recipes"]["swap.yaml"]
    assert entry["checkpoint"]["name"] == "net.pt"
    assert set(entry["versions"]) == {"modswap", "torch", "python"}
    assert entry["sites"]["space_attention"]["chosen"]["dim"] == 16
    assert check("swap.yaml", "--locked")[0] == 0


@pytest.mark.slow
def test_several_recipes_are_locked_in_one_file(check: Check) -> None:
    assert check("swap.yaml", "two.yaml", "--lock", "--lock-file", "ci.lock", "-q")[0] == 0

    assert list(json.loads(Path("ci.lock").read_text())["recipes"]) == ["swap.yaml", "two.yaml"]
    assert check("two.yaml", "swap.yaml", "--locked", "--lock-file", "ci.lock")[0] == 0


def test_drift_fails_the_check_and_is_reported_piece_by_piece(check: Check) -> None:
    check("swap.yaml", "--lock")
    torch.save(build_gated(32), "net.pt")
    Path("swap.yaml").write_text(RECIPE + "# more\n")

    code, out, _ = check("swap.yaml", "--locked")

    assert code == 1
    for what in ("recipe was ", "checkpoint was net.pt (", "dim of space_attention was 16, is 32"):
        assert f"\n✗ swap.yaml: {what}" in out


def test_drift_is_reported_beside_what_fails(check: Check) -> None:
    check("swap.yaml", "--lock")
    Path("swap.yaml").write_text(RECIPE.replace("{space,channel}", "spade"))

    code, out, _ = check("swap.yaml", "--locked")

    assert code == 2
    assert "no module matches 'spade_attention'" in out
    assert "swap.yaml: recipe was " in out


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [("swap.yaml", 2, "swap.yaml:1:1: it is empty"), ("net.pt", 3, "net.pt: it is empty")],
)
def test_file_that_is_no_more_is_reported_once(
    check: Check, damage: str, code: int, said: str
) -> None:
    check("swap.yaml", "--lock")
    Path(damage).write_text("")

    ended, out, _ = check("swap.yaml", "--locked")

    assert ended == code
    assert said in out


def test_missing_checkpoint_is_reported_once(check: Check) -> None:
    check("swap.yaml", "--lock")
    Path("net.pt").unlink()

    code, out, _ = check("swap.yaml", "--locked")

    assert code == 3
    assert out.count("net.pt: ") == 1


@pytest.mark.slow
def test_nothing_is_locked_unless_all_recipes_hold(check: Check) -> None:
    Path("two.yaml").write_text(RECIPE.replace("{space,channel}", "spade"))

    code, _, err = check("swap.yaml", "two.yaml", "--lock", "--jobs", "1")

    assert code == 2
    assert "modswap.lock was not written: not every recipe holds" in err
    assert not Path("modswap.lock").exists()


def test_lock_that_is_missing_or_lacks_the_recipe_ends_with_two(check: Check) -> None:
    missing = check("swap.yaml", "--locked")
    check("swap.yaml", "--lock")
    lacking = check("two.yaml", "--locked")

    assert missing[0] == lacking[0] == 2
    assert "error: modswap.lock: there is no lock file" in missing[2]
    assert "error: two.yaml: modswap.lock has no entry for it" in lacking[2]


@pytest.mark.parametrize("options", [("--lock", "--locked"), ("--lock-file", "x.lock")])
def test_options_that_do_not_go_together_are_reported(
    check: Check, options: tuple[str, ...]
) -> None:
    assert check("swap.yaml", *options)[0] == 2

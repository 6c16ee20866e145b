"""The fixture `modswap_check`, used here as another project's tests would."""

from pathlib import Path

import pytest
import torch

from modswap.cli.pytest_plugin import Checking, modswap_check  # noqa: F401 - a fixture
from tests.models import GatedNet

RECIPE = """\
version: 1
checkpoint: net.pt
allow: ["tests.models.*"]
inputs: [{shape: [2, 3, 28, 28]}]
verify: {modes: [train], skip: [matrix, dependence, sizes, cost, survival]}
replace:
"""
GOOD = f"{RECIPE}  - match: space_attention\n    with: BiLevelRoutingAttention\n"
BAD = f"{RECIPE}  - {{match: head, with: 'tests.models:Moody', args: {{out_channels: 2}}}}\n"


@pytest.fixture
def check(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checking:
    monkeypatch.chdir(tmp_path)
    torch.save(GatedNet().eval(), "net.pt")
    Path("good.yaml").write_text(GOOD)
    Path("bad.yaml").write_text(BAD)
    found: Checking = request.getfixturevalue("modswap_check")
    return found


def test_swap_that_holds_gives_its_outcome(check: Checking) -> None:
    outcome = check("good.yaml")

    assert (outcome.command, outcome.ok) == ("check", True)
    assert [site.path for site in outcome.sites] == ["space_attention"]


def test_checkpoint_may_be_named_by_the_test(check: Checking) -> None:
    Path("net.pt").rename("other.pt")

    assert check("good.yaml", "other.pt", thorough=True).checkpoint == "other.pt"


def test_swap_that_does_not_hold_fails_the_test_with_the_report(check: Checking) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"(?s)^modswap check bad.yaml\nFAILED ."):
        check("bad.yaml")


def test_error_fails_the_test_with_its_words(check: Checking) -> None:
    Path("net.pt").unlink()

    with pytest.raises(pytest.fail.Exception, match=r"^modswap check good.yaml\nnet.pt: "):
        check("good.yaml")

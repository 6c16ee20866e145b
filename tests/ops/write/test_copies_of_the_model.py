"""Copies of the model in a checkpoint, such as averages, whose new modules inherit from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.ops.examine.table import examination_names
from tests.old_modules import OnMaps, randomised


def build() -> nn.Module:
    """Build a network with attention in it."""
    return nn.Sequential(OnMaps(), nn.ReLU())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["weights", "modules", "modules to be saved anew"])
@torch.no_grad()
def test_average_inherits_from_the_average(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, average = randomised(build(), 1), randomised(build(), 2)
    pair = {"model": model, "ema": average}
    if kind == "weights":
        torch.save({name: one.state_dict() for name, one in pair.items()}, "net.pt")
    else:
        torch.save(pair, "net.pt")
    out = "out.ckpt" if kind.endswith("anew") else "out.pt"
    args = "{n_win: 2, topk: 4}"
    Path("swap.yaml").write_text(
        f"version: 1\ninputs: [{{shape: [1, 16, 4, 4]}}]\n"
        f"verify: {{skip: [{', '.join(examination_names())}]}}\n"
        f"replace: [{{match: '0', with: BRA, args: {args}, start: inherit}}]\n"
    )
    options = ["--allow", "tests.*", "--model", f"{__file__}:build", "-o", out, "-q"]

    assert run(["replace", "net.pt", "-c", "swap.yaml", *options]) == 0

    found: Any = torch.load(out, weights_only=False)  # noqa: TID251 - a file of the test's own
    x = torch.randn(2, 16, 4, 4)
    for name, old in pair.items():
        new: Any = modswap.load(out, model=f"{__file__}:build", allow=["tests.*"]).eval()
        value = found[name]
        new.load_state_dict(value if kind == "weights" else value.state_dict())
        assert (new(x) - old(x)).abs().max() < 1e-5

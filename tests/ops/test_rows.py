"""Every module of the catalogue, by its name in a recipe: swapped in, trained, written, loaded."""

from pathlib import Path

import pytest
import torch

import modswap
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import CATALOGUE
from tests.models import GatedNet

# one module at two sites; tokens
QUICK = {("ECA", True), ("SelfAttention", False)}


@pytest.mark.parametrize(
    ("name", "share"),
    [
        pytest.param(name, share, marks=() if (name, share) in QUICK else pytest.mark.slow)
        for name in CATALOGUE
        for share in (False, True)
    ],
)
def test_row_is_swapped_in_trained_written_and_loaded(
    name: str, share: bool, tmp_path: Path
) -> None:
    text = (
        "version: 1\ninputs: [{shape: [1, 3, 28, 36]}]\nreplace:\n"
        f'  - {{match: "{{space,channel}}_attention", with: {name}, share: {str(share).lower()}}}\n'
        "verify: {modes: [eval, train], sizes: [[30, 38]]}\n"
    )
    recipe = parse_recipe(text, "swap.yaml", ".")
    torch.manual_seed(0)
    model, x = GatedNet(), torch.randn(4, 3, 28, 36)

    outcome = modswap.replace(model, recipe)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for suffix in ("pt", "safetensors"):
        modswap.save(model.eval(), tmp_path / f"out.{suffix}", recipe=recipe)

    assert outcome.ok
    assert losses[-1] < losses[0]
    whole = modswap.load(tmp_path / "out.pt", allow=["tests.models.*"])
    weights = modswap.load(tmp_path / "out.safetensors", "tests.models:build_gated")
    for loaded in (whole, weights):
        assert (loaded.space_attention is loaded.channel_attention) is share
        assert torch.equal(loaded.eval()(x), model(x))

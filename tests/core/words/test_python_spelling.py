"""Options of the command line in errors, as callers from Python read them."""

from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.recipe import Recipe
from modswap.core.errors import ModswapError
from modswap.core.words.python_spelling import as_python
from modswap.io.recipe.reader import parse_recipe
from tests.models import GatedNet, build_gated


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("add --allow a.B", "add allow=['a.B']"),
        ("add --allow a.B --allow c.* (--allow package.* admits)",
         "add allow=['a.B', 'c.*'] (allow=['package.*'] admits)"),
        ("add --alias __main__.A=my.A --allow b.C",
         "add alias=[('__main__.A', 'my.A')], allow=['b.C']"),
        ("`--model package.module:callable`", "`model='package.module:callable'`"),
        ("write it: --model \"a:b(c='d')\"", "write it: model=\"a:b(c='d')\""),
        ("name them with `--model`", "name them with `model=`"),
        ("all fit with `--rename 'a.=b.'`", "all fit with `rename=[('a.', 'b.')]`"),
        ("with `--strip-prefix model. --rename 'x=' --rename y.=z.`",
         "with `strip_prefix='model.', rename=[('x', ''), ('y.', 'z.')]`"),
        ("name another file, or add --force", "name another file, or add force=True"),
        ("only with --trust, or --no-checksum", "only with trust=True, or checksum=False"),
        ("give one: `--input 1,3,224,224`, or `inputs:` in the recipe",
         "give one: `inputs:` in the recipe"),
        ("give one: `--input 1,3,224,224`, once for each tensor of the call",
         "give one: `inputs:` in the recipe"),
        ("`--thorough` takes that time",
         "`verify: {thorough: true}` in the recipe takes that time"),
        ("`replace --no-forward` swaps; `modswap tree --input …` shows",
         "`modswap replace --no-forward` swaps; `modswap tree --input …` shows"),
        ("set `adapt: true` in its rule", "set `adapt: true` in its rule"),
    ],
)  # fmt: skip
def test_option_becomes_an_argument(text: str, python: str) -> None:
    assert as_python(text) == python


def test_errors_of_load_and_save_are_spelled_for_python(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")
    torch.save({f"net.{k}": v for k, v in GatedNet().state_dict().items()}, tmp_path / "net.pth")

    with pytest.raises(ModswapError, match=r"allow=\['tests.models.GatedNet'\]") as raised:
        modswap.load(tmp_path / "net.pt")
    assert "--allow" not in str(raised.value)
    with pytest.raises(ModswapError, match=r"model='package\.module:callable'"):
        modswap.load(tmp_path / "net.pth")
    with pytest.raises(ModswapError, match=r"^model: .* all fit with `strip_prefix='net\.'`"):
        modswap.load(tmp_path / "net.pth", "tests.models:build_gated")
    with pytest.raises(ModswapError, match="add force=True"):
        modswap.save(nn.Linear(2, 2), tmp_path / "net.pt")


def recipe(text: str) -> Recipe:
    rule = "replace: [{match: space_attention, with: ECA}]\n"
    return parse_recipe(f"version: 1\n{text}{rule}", "swap.yaml", ".")


class Refusing(nn.Module):
    """A model that takes no input."""

    def forward(self, x: object) -> object:
        raise ValueError(x)


def test_errors_and_findings_of_replace_are_spelled_for_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ModswapError, match=r"no dummy input fits.*: `inputs:` in the recipe"):
        modswap.replace(Refusing(), recipe(""))
    with pytest.raises(ModswapError, match=r"that the model takes: `inputs:` in the recipe$"):
        modswap.replace(build_gated(), recipe("inputs: [{shape: [1, 5, 8, 8]}]\n"))
    monkeypatch.setattr("modswap.ops.examine.bench.MAX_CALLS_OF_MODULES", 1)

    outcome = modswap.replace(build_gated(), recipe("inputs: [{shape: [1, 3, 8, 8]}]\n"))

    assert outcome.verdict is not None
    said = [one.what for one in outcome.verdict.findings if "takes that time" in one.what]
    assert said
    assert all("`verify: {thorough: true}`" in one and "--" not in one for one in said)

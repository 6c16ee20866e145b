"""Options of the command line in errors, as callers from Python read them."""

from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import ModswapError
from modswap.core.words.python_spelling import as_python
from tests.models import GatedNet


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("add --allow a.B", "add allow=['a.B']"),
        ("add --allow a.B --allow c.* (--allow package.* admits)",
         "add allow=['a.B', 'c.*'] (allow=['package.*'] admits)"),
        ("use --alias a.B=c.D", "use alias=[('a.B', 'c.D')]"),
        ("`--model package.module:callable`", "`model='package.module:callable'`"),
        ("name them with `--model`", "name them with `model=`"),
        ("name another file, or add --force", "name another file, or add force=True"),
        ("only with --trust", "only with trust=True"),
        ("give one: `--input 1,3,224,224`, or", "give one: `inputs:` in the recipe, or"),
        ("set `adapt: true` in its rule", "set `adapt: true` in its rule"),
    ],
)  # fmt: skip
def test_option_becomes_an_argument(text: str, python: str) -> None:
    assert as_python(text) == python


def test_errors_of_load_and_save_are_spelled_for_python(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "net.pth")

    with pytest.raises(ModswapError, match=r"allow=\['tests.models.GatedNet'\]"):
        modswap.load(tmp_path / "net.pt")
    with pytest.raises(ModswapError, match=r"model='package.module:callable'"):
        modswap.load(tmp_path / "net.pth")
    with pytest.raises(ModswapError, match="add force=True"):
        modswap.save(nn.Linear(2, 2), tmp_path / "net.pt")

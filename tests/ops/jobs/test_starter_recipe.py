"""Starter recipes: the input that is found, the target that is chosen, and the rule that holds."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import UsageError
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file
from modswap.ops.jobs.starter_recipe import starter_recipe
from tests.models import GatedNet

ALLOW = Policy(allow=("tests.models.*",))


def subject(model: nn.Module, folder: Path, *shape: int) -> Subject:
    torch.save(model, folder / "net.pt")
    return Subject(folder / "net.pt", ALLOW, None, (TensorInput(shape=shape),) if shape else ())


def test_recipe_shows_the_targets_and_holds(tmp_path: Path) -> None:
    given = subject(GatedNet(), tmp_path)

    text = starter_recipe(given)

    assert "#   space_attention" in text
    assert "16 channels, 112x112" in text
    assert check_file(Job(given, parse_recipe(text, "first.yaml", "."))).ok


def test_module_whose_name_says_attention_is_taken_before_others(tmp_path: Path) -> None:
    parts = OrderedDict(
        stem=nn.Conv2d(3, 16, 3, padding=1),
        dense=nn.Sequential(nn.Conv2d(16, 16, 1)),  # no `se`, and neither is its class
        attn=nn.Sequential(nn.Conv2d(16, 16, 1)),
    )

    assert '- match: "attn"' in starter_recipe(
        subject(nn.Sequential(parts), tmp_path, 1, 3, 28, 28)
    )


def test_tokens_that_make_no_map_get_a_module_for_tokens(tmp_path: Path) -> None:
    parts = OrderedDict(
        norm=nn.LayerNorm(16), attn=nn.Sequential(nn.Linear(16, 16)), head=nn.Linear(16, 2)
    )

    text = starter_recipe(subject(nn.Sequential(parts), tmp_path, 1, 50, 16))

    assert "with: MultiHeadSelfAttention" in text


def test_path_with_special_characters_is_escaped(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("attn[0]", nn.Sequential(nn.Conv2d(8, 8, 1)))
    given = subject(model, tmp_path, 1, 8, 28, 28)

    text = starter_recipe(given)

    assert "re:attn\\[0\\]" in text


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "no layer shows the shape of an input"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), "none of 0 modules that keep their shape"),
    ],
    ids=["no layer", "no target"],
)
def test_file_without_targets_is_refused(tmp_path: Path, model: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        starter_recipe(subject(model, tmp_path))

"""The models in files of torch.save, found from the pickle alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.io.formats.outline import survey


def saved(payload: Any, folder: Path) -> Path:
    torch.save(payload, folder / "net.pt")
    return folder / "net.pt"


def net(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), *layers)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (net(nn.ReLU()), True),
        (net(nn.GELU()), False),
        (net(), False),
        (net(nn.ReLU()).state_dict(), False),
    ],
)
def test_average_of_a_model_is_a_place_of_it_where_its_modules_are_the_same(
    other: Any, same: bool, tmp_path: Path
) -> None:
    file = saved({"model": net(nn.ReLU()), "ema": other}, tmp_path)

    places = survey(file).places

    assert [place.keys for place in places] == [("model",), ("ema",)][: 1 + same]


def test_file_without_a_model_is_refused_with_advice(tmp_path: Path) -> None:
    file = saved({"epoch": 3, "loss": [0.5]}, tmp_path)

    with pytest.raises(CheckpointError, match="no model or weights are found in it") as caught:
        survey(file)

    assert caught.value.where == str(file)
    assert caught.value.fix == "run `modswap tree` on it to see its contents"

"""Swaps of models in memory, which are recorded in the files that they are saved in."""

from pathlib import Path

from torch import nn

import modswap
from modswap.core.asked.job import Policy
from modswap.io.formats.reading import read
from modswap.ops.remembered import known_swaps
from tests.models import build_gated
from tests.ops.test_api import ECA


def test_swaps_of_a_model_are_known_as_long_as_their_modules_are_there() -> None:
    model = build_gated()
    assert known_swaps(model) is None

    modswap.replace(model, ECA)

    swaps = known_swaps(model)
    assert swaps is not None
    assert [site.paths for site in swaps.receipt.sites] == [("space_attention",)]
    del model.space_attention
    assert known_swaps(model) is None


def test_no_swap_is_recorded_where_its_module_has_been_exchanged_since(tmp_path: Path) -> None:
    model = build_gated().eval()
    modswap.replace(model, ECA)
    loaded = modswap.load(modswap.save(model, tmp_path / "net.pt").file, allow=["tests.models.*"])
    loaded.space_attention = nn.Conv2d(8, 8, 1)

    modswap.save(loaded, tmp_path / "other.pt")

    other = read(tmp_path / "other.pt", Policy(allow=("tests.models.*",)))
    assert (other.recipe, other.receipt) == (None, None)
    again = modswap.load(tmp_path / "other.pt", allow=["tests.models.*"])
    assert isinstance(again.get_submodule("space_attention"), nn.Conv2d)

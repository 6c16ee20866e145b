"""Putting modules in, and taking them out again."""

import pytest
from torch import nn

from modswap.core.errors import MatchError
from modswap.ops.apply import parent_of, swapped
from tests.models import GatedNet, SharedNet


def test_new_module_goes_to_every_path() -> None:
    model, new = SharedNet(), nn.Identity()

    with swapped(model, [(("first", "second"), new)]):
        pass

    assert list(model.children()) == [new]
    assert list(model._modules) == ["first", "second"]


def interrupted(model: GatedNet) -> None:
    """Swap two modules, and be interrupted."""
    placements = [(("stem",), nn.Identity()), (("channel_attention.1",), nn.Identity())]
    with swapped(model, placements):
        assert isinstance(model._modules["stem"], nn.Identity)
        raise KeyboardInterrupt


def test_old_modules_come_back_in_place_if_the_block_raises() -> None:
    model = GatedNet()
    old = list(model.named_modules())

    with pytest.raises(KeyboardInterrupt):
        interrupted(model)

    assert list(model.named_modules()) == old


def test_old_modules_come_back_if_a_path_is_wrong() -> None:
    model = GatedNet()
    old = list(model.named_modules())

    with (
        pytest.raises(MatchError, match=r"^nowhere: no module 'nowhere' in GatedNet"),
        swapped(model, [(("stem",), nn.Identity()), (("nowhere",), nn.Identity())]),
    ):
        pass

    assert list(model.named_modules()) == old


def test_name_with_a_dot_in_it_is_found() -> None:
    model = nn.Module()
    odd = nn.Sequential(nn.Identity())
    model._modules["a.b"] = odd

    assert parent_of(model, "a.b") == (model, "a.b")
    assert parent_of(model, "a.b.0") == (odd, "0")

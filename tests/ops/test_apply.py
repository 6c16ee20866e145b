"""New modules put into a model: for good, undone on an error, or for a block."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from torch import nn

from modswap.core.errors import MatchError
from modswap.ops.apply import applied, apply, parent_of, temporarily
from tests.models import GatedNet, SharedNet

TWO = [(("stem",), nn.Identity()), (("channel_attention.1",), nn.Identity())]
LAST_IS_WRONG = [(("stem",), nn.Identity()), (("nowhere",), nn.Identity())]
Context = Callable[..., AbstractContextManager[None]]


def test_new_module_is_put_at_every_path_and_stays() -> None:
    model, new = SharedNet(), nn.Identity()

    apply(model, [(("first", "second"), new)])

    assert list(model.children()) == [new]
    assert list(model._modules) == ["first", "second"]


def test_apply_returns_what_undoes_it() -> None:
    model = GatedNet()
    old = list(model.named_modules())

    undo = apply(model, TWO)
    undo()

    assert list(model.named_modules()) == old


def test_applied_modules_stay_after_the_block() -> None:
    model = GatedNet()

    with applied(model, TWO):
        pass

    assert model._modules["stem"] is TWO[0][1]


def test_temporary_modules_are_in_for_the_block_only() -> None:
    model = GatedNet()
    old = list(model.named_modules())

    with temporarily(model, TWO):
        assert model._modules["stem"] is TWO[0][1]

    assert list(model.named_modules()) == old


@pytest.mark.parametrize("context", [applied, temporarily])
def test_old_modules_come_back_in_place_if_the_block_raises(context: Context) -> None:
    model = GatedNet()
    old = list(model.named_modules())

    with pytest.raises(KeyboardInterrupt), context(model, TWO):
        raise KeyboardInterrupt

    assert list(model.named_modules()) == old


@pytest.mark.parametrize("context", [applied, temporarily])
def test_old_modules_come_back_if_a_path_is_wrong(context: Context) -> None:
    model = GatedNet()
    old = list(model.named_modules())

    with (
        pytest.raises(MatchError, match=r"^nowhere: no module 'nowhere' in GatedNet"),
        context(model, LAST_IS_WRONG),
    ):
        pass

    assert list(model.named_modules()) == old


def test_name_with_a_dot_in_it_is_found() -> None:
    model = nn.Module()
    odd = nn.Sequential(nn.Identity())
    model._modules["a.b"] = odd

    assert parent_of(model, "a.b") == (model, "a.b")
    assert parent_of(model, "a.b.0") == (odd, "0")

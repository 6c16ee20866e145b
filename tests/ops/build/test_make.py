"""New modules under a seed."""

from pathlib import Path

import pytest
import torch

from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import RecipeError
from modswap.ops.build.make import import_class, make_module

SE = Blueprint("SEBlock", {"channel": 16, "reduction": 4})


def weights(seed: int) -> torch.Tensor:
    return torch.cat([p.flatten() for p in make_module(SE, None, seed).parameters()])


def test_seed_fixes_the_weights_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()

    first, again, other = weights(1), weights(1), weights(2)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_name_of_anything_but_a_module_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^here: 'torch:ones' is .* derived from torch.nn.Mod"):
        import_class("torch:ones", folder=str(tmp_path), where="here")

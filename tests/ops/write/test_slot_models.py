"""Each model of a file that holds one more than once has the weights of its own slot."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.io.formats.container import Container, Slot
from modswap.ops.load.model import Loaded
from modswap.ops.load.stored import Stored
from modswap.ops.write.slot_models import models_of_slots


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def loaded(net: nn.Module, *others: Slot) -> Loaded:
    slots = (Slot(("model",), "module", net), *others)
    return Loaded(net, Container("torch", Path("net.pt"), {}, slots))


def test_copies_have_the_modules_and_weights_of_their_slots(net: nn.Module) -> None:
    module = copy.deepcopy(net)
    weights = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    slots = Slot(("ema",), "module", module), Slot(("average",), "weights", weights)

    first, second, third = models_of_slots(loaded(net, *slots))

    assert (first.model, second.model) == (net, module)
    state = third.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    assert not torch.equal(net.state_dict()["0.weight"], weights["0.weight"])


def test_weights_by_other_names_than_the_models_are_found_by_them(net: nn.Module) -> None:
    one = loaded(net, Slot(("ema",), "weights", {"x": torch.ones(2, 2)}))
    stored = Stored({}, {}, {"0.weight": ("x",)}, {"y": "y"})

    _, other = models_of_slots(replace(one, stored=stored))

    assert torch.equal(other.model.state_dict()["0.weight"], torch.ones(2, 2))


def test_weights_of_which_several_make_a_tensor_are_refused(net: nn.Module) -> None:
    one = loaded(net, Slot(("ema",), "weights", {"x": torch.ones(1)}))
    stored = Stored({}, {}, {"0.weight": ("x", "z")}, {})

    with pytest.raises(CheckpointError, match="again under 'ema', by tensors that its library"):
        models_of_slots(replace(one, stored=stored))

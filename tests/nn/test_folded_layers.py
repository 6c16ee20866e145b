"""The structure that is left of a module in which layers were folded into others."""

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import LayerFold
from modswap.nn.folded_layers import ZeroOutput, refolded


def module() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())


def test_layers_that_were_folded_give_what_they_are_given_or_0() -> None:
    made = refolded(module().eval(), [LayerFold("0", ("1",))])

    assert isinstance(made[1], nn.Identity)  # type: ignore[index] # a Sequential
    assert list(made.state_dict()) == ["0.weight", "0.bias"]
    assert not made[1].training  # type: ignore[index] # as above
    zero = ZeroOutput()(torch.ones(2, 3, dtype=torch.float64))
    assert zero.dtype == torch.float64
    assert torch.equal(zero + torch.ones(3), torch.ones(3).double())


@pytest.mark.parametrize(
    "fold", [LayerFold("9"), LayerFold("1"), LayerFold("0", ("0",)), LayerFold("0", (), ("2",))]
)
def test_a_module_without_such_layers_is_refused(fold: LayerFold) -> None:
    with pytest.raises(ValueError, match="no layer can be folded at"):
        refolded(module(), [fold])

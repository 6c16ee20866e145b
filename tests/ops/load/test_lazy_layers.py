"""Models of lazy layers are built for the weights of a file."""

from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run

RECIPE = """\
version: 1
inputs: [{shape: [2, 4, 6, 6]}]
verify: {skip: [matrix, copies, cost, sizes, gradients, dependence, independence, finite]}
insert: [{after: "1", with: ECA}]
"""
FACTORY = ("--model", f"{__name__}:lazy_net")


def lazy_net() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(8, 3, padding=1, groups=2),
        nn.LazyBatchNorm2d(),
        nn.LazyConvTranspose2d(6, 2, stride=2),
        nn.LazyInstanceNorm2d(),
        nn.Flatten(),
        nn.LazyLinear(5),
    )


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = lazy_net().eval()
    net(torch.ones(1, 4, 6, 6))
    torch.save(net.state_dict(), "net.pt")
    return net


def test_lazy_layers_take_their_sizes_from_the_weights(net: nn.Module) -> None:
    loaded = modswap.load("net.pt", model=f"{__name__}:lazy_net").eval()

    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(loaded(x), net(x))
    assert str(loaded) == str(net)  # classes and sizes


def test_swap_in_a_model_of_lazy_layers(net: nn.Module) -> None:
    Path("swap.yaml").write_text(RECIPE)
    assert run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", *FACTORY, "-q"]) == 0

    swapped = modswap.load("out.pt", model=f"{__name__}:lazy_net").eval()
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(swapped(x), net(x))


def test_lazy_layer_that_the_file_lacks_is_named(
    net: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: tensor for name, tensor in net.state_dict().items() if name != "5.weight"}
    torch.save(state, "net.pt")

    Path("swap.yaml").write_text(RECIPE)
    assert run(["check", "net.pt", "-c", "swap.yaml", *FACTORY]) == 2

    assert "'5' is a LazyLinear, whose sizes the first pass sets" in capsys.readouterr().err

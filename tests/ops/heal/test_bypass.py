"""Linear maps beside new modules."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.nn import CBAM
from modswap.ops.heal.bypass import fit_bypass, put_bypasses
from modswap.ops.heal.passes import Models
from modswap.ops.heal.samples import HeldSamples
from modswap.ops.heal.sites import HealedSite, sites_to_heal
from tests.ops.heal.nets import CHANNELS, classifier, new_module, pictures, swapped

ALL = range(64)
torch.manual_seed(0)
MAPS = torch.randn(64, 4, 6, 6)


class Named(nn.Module):
    """A model that gives its site what it takes, by position or by name."""

    def __init__(self, mix: nn.Module, *, named: bool = False) -> None:
        super().__init__()
        self.mix = mix
        self.named = named

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.mix(input=x) if self.named else self.mix(x)
        return y


class Tanh(nn.Module):
    """A module that has weights and is no linear map."""

    def __init__(self, *, stride: int = 1, outputs: int = 4, layout: str | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))
        self.stride, self.outputs, self.layout = stride, outputs, layout

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        strided = input[:, :, :: self.stride, :: self.stride] if self.stride > 1 else input
        axis = 1 if input.ndim == 4 and self.layout is None else -1
        some = strided.narrow(axis, 0, self.outputs)
        return some.tanh() * (self.scale.view(-1, 1, 1) if axis == 1 else self.scale)


def put(old: nn.Module, new: nn.Module, x: torch.Tensor, *, named: bool = False) -> HealedSite:
    own = copy.deepcopy(new)
    both = Models(Named(old, named=named), Named(new, named=named), HeldSamples((x,)), 16)
    (site,) = put_bypasses(both, sites_to_heal(both.original, both.model), ALL)
    if site.bypass is not None:
        with torch.no_grad():
            assert torch.equal(both.model(x), own(x))  # it gives nothing yet
            assert fit_bypass(both, site, site.bypass, ALL)
            wrong = (both.model(x) - both.original(x)).square().mean()
        assert wrong < 1e-6 * both.original(x).square().mean()
    return site


LINEAR = "Linear(in_features=6, out_features=6, bias=True)"
KINDS = [
    (nn.Conv2d(4, 4, 1), Tanh(), MAPS, "Conv2d(4, 4, kernel_size=(1, 1), stride=(1, 1))"),
    (nn.Conv2d(4, 2, 1, stride=2), Tanh(stride=2, outputs=2), MAPS,
     "Conv2d(4, 2, kernel_size=(1, 1), stride=(2, 2))"),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), Tanh(), MAPS,
     "Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=4)"),
    (nn.Linear(6, 6), Tanh(outputs=6, layout="NHWC"), MAPS, LINEAR),
    (nn.Linear(6, 6), Tanh(outputs=6), MAPS[:, 0], LINEAR),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "x", "kind"), KINDS)
def test_layer_of_the_kind_that_fits_holds_the_old_module(
    old: nn.Module, new: nn.Module, x: torch.Tensor, kind: str
) -> None:
    class Linear(nn.Module):
        """What the new module lacks: the old one, and what the new one gives."""

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = old(input) + copied(input)
            return y

    copied = copy.deepcopy(new)
    for named in (False, True):
        site = put(Linear(), copy.deepcopy(new), x, named=named)
        assert site.bypass is not None
        assert str(site.bypass.layer) == kind
        assert site.bypass.inserted.source == ("input" if named else 0,)


class Squared(nn.Module):
    """A module of which no linear map explains anything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square()


@pytest.mark.parametrize(
    ("old", "x"),
    [
        (Squared(), torch.cat([MAPS[:32], -MAPS[:32]])),  # it is even
        (nn.Flatten(), MAPS),  # of other axes
        (nn.Upsample(scale_factor=2), MAPS),
        (nn.ZeroPad2d((0, 0, 0, 1)), MAPS),
    ],
)
def test_module_that_is_no_linear_map_gets_none(old: nn.Module, x: torch.Tensor) -> None:
    class New(nn.Module):
        """A module of another class."""

        def __init__(self) -> None:
            super().__init__()
            self.old = old

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -copy.deepcopy(self.old)(x)  # type: ignore[no-any-return] # a tensor

    assert put(old, New(), x).bypass is None


def healed(module: nn.Module, **wishes: Any) -> tuple[nn.Module, nn.Module, Any]:
    net = classifier()
    other = swapped(net, module)
    stages = {"stages": ("closed",), **wishes}
    outcome = modswap.heal(other, against=net, data=[pictures(64)], bypass=True, **stages)
    return net, other, outcome


def test_file_has_the_map_beside_the_module(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = classifier()
    other = copy.deepcopy(net)
    swap = modswap.replace(other, match="mix", with_="CBAM", inputs=[(2, 3, 8, 8)])
    assert swap.ok
    before = copy.deepcopy(other)
    wishes: dict[str, Any] = {"bypass": True, "stages": ("closed",), "metric": "error"}
    outcome = modswap.heal(other, against=net, data=[pictures()], **wishes)
    assert outcome.healing is not None
    (site,) = outcome.healing.sites
    assert site.after < site.before / 2
    layer = "Conv2d(8, 8, kernel_size=(1, 1), stride=(1, 1))"
    assert site.notes == (f"beside it is a linear map (bypass): {layer}",)
    assert site.share is not None
    assert site.share > 0
    assert outcome.params_after == outcome.params_before + CHANNELS * (CHANNELS + 1)
    x = pictures(4)
    with torch.no_grad():
        wanted = other(x)
        assert not torch.equal(wanted, before(x))
        for name in ("healed.pt", "healed.safetensors"):
            modswap.save(other, tmp_path / name)
            model = "tests.ops.heal.nets:Classifier"
            found = modswap.load(tmp_path / name, model, allow=["tests.ops.heal.nets.*"])
            assert torch.equal(found.eval()(x), wanted)


def test_module_that_holds_the_old_one_gets_no_map_beside_it() -> None:
    _, other, outcome = healed(new_module("ACmix"))
    (site,) = outcome.healing.sites
    assert site.after < 1e-3
    assert "bypass" not in dict(other.get_submodule("mix").named_children())
    assert outcome.params_after == outcome.params_before


@pytest.mark.parametrize("stages", [("fit",), ("closed", "fit")])
def test_map_that_no_closed_form_needs_is_not_trained(stages: tuple[str, ...]) -> None:
    _, other, outcome = healed(new_module("ACmix"), stages=stages, steps=2)
    assert not [name for name, _ in other.named_parameters() if "bypass" in name]
    assert outcome.params_after == outcome.params_before


def test_map_of_a_stage_that_is_taken_back_is_not_put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modswap.core.healed.agreement.Agreement.better_than", lambda *_: False)
    torch.manual_seed(1)
    module = CBAM(CHANNELS).eval()
    before = copy.deepcopy(module.state_dict())
    _, other, _ = healed(module)
    after = other.get_submodule("mix").state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())

"""Gates go into the layers that can hold them, and into no other one.

Covers: gates.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from modswap.core.seen.joint import Joint
from modswap.nn.insertion import Insertion
from modswap.ops.build.folding.flow import ModuleInputs, recorded
from modswap.ops.build.gate_folding import without_gate

X = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(0))
ADDED = Joint("after", "add", channels=6, axes=2)


class Cropped(nn.Module):
    """A convolution, of whose padded output a part is returned as a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)[:, :, 2:-2, 2:-2].contiguous()  # type: ignore[no-any-return] # a module's output


class PixelsLast(nn.Module):
    """A layer on pixels, whose channels come last inside."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.proj(x.flatten(2).mT)
        return inner.mT.reshape(x.shape)


class Twice(nn.Module):
    """One layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(x).relu())  # type: ignore[no-any-return] # a module's output


class TiedLayers(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.first.weight = self.last.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())  # type: ignore[no-any-return] # a module's output


class WithResidual(nn.Module):
    """A layer whose output is not all that is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)  # type: ignore[no-any-return] # a module's output


class Pair(nn.Module):
    """A layer that returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.conv(x), x


class ByPool(nn.Module):
    """A module that multiplies its input, so that a layer in it cannot scale its output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None].sigmoid()  # type: ignore[no-any-return] # a module's output


def chain(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*map(copy.deepcopy, layers))


CASES: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "module itself": (lambda: nn.Conv2d(6, 6, 1), ""),
    "convolution": (chain(nn.Conv2d(6, 6, 3, padding=1)), "0"),
    "norm behind it": (chain(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)), "1"),
    "norm of groups": (chain(nn.Conv2d(6, 6, 1), nn.GroupNorm(2, 6)), "1"),
    "norm without weights": (chain(nn.Conv2d(6, 6, 1), nn.InstanceNorm2d(6)), None),
    "ReLU behind it": (chain(nn.Conv2d(6, 6, 1), nn.ReLU()), None),
    "sigmoid behind it": (chain(nn.Conv2d(6, 6, 1), nn.Sigmoid()), None),
    "depthwise": (chain(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)), "0"),
    "shuffled channels": (chain(nn.Conv2d(6, 6, 1), nn.ChannelShuffle(2)), None),
    "part of an output": (Cropped, "conv"),
    "pixels last": (PixelsLast, "proj"),
    "layer that runs twice": (Twice, None),
    "tied weight": (TiedLayers, None),
    "residual": (WithResidual, None),
    "no layer": (chain(nn.ReLU()), None),
    "two tensors": (Pair, None),
}


def joined(module: nn.Module, values: list[float]) -> Insertion:
    made = Insertion(module, Joint("after", "add", len(values), 2)).eval()
    assert made.gate is not None
    made.gate.data = torch.tensor(values)
    return made


@pytest.mark.parametrize("case", CASES)
def test_the_gate_goes_into_the_layer_that_scales_the_output(case: str) -> None:
    build, layer = CASES[case]
    torch.manual_seed(0)
    inserted = joined(build(), [0.3, -1.5, 2.0, 0.7, -0.1, 1.0])
    before = {name: value.clone() for name, value in inserted.state_dict().items()}

    made = without_gate(inserted, ADDED, ModuleInputs((X,), {}), at_one=False)

    assert (made.layer if made else None) == layer
    after = inserted.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    if made is not None:
        with torch.no_grad():
            torch.testing.assert_close(made.module(X), inserted(X), rtol=1e-5, atol=1e-5)
        assert made.module.gate is None
        path = f"module.{layer}".rstrip(".")
        kept = {n: p for n, p in made.module.named_parameters() if n.rpartition(".")[0] != path}
        assert all(p is inserted.get_parameter(name) for name, p in kept.items())


@pytest.mark.parametrize("values", [[-0.5], [0.0, 1.0, 0.0, -2.0, 0.5, 3.0]])
def test_one_gate_for_all_channels_and_gates_of_0_are_folded(values: list[float]) -> None:
    inserted = joined(nn.Conv2d(6, 6, 1), values)

    made = without_gate(inserted, ADDED, ModuleInputs((X,), {}), at_one=False)

    assert made is not None
    torch.testing.assert_close(made.module(X), inserted(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU6()), 0.1 * X),
        (ByPool(), torch.zeros_like(X)),
    ],
    ids=["bound that the input does not reach", "input of zeros"],
)
def test_no_layer_takes_a_gate_that_comes_out_on_the_given_input_alone(
    module: nn.Module, x: torch.Tensor
) -> None:
    inserted = joined(module, [0.3, 1.5, 2.0, 0.7, 0.1, 1.0])

    assert without_gate(inserted, ADDED, ModuleInputs((x,), {}), at_one=False) is None


def test_a_module_without_a_gate_has_none_to_fold() -> None:
    plain = Joint("after", "plain")

    assert (
        without_gate(Insertion(nn.ReLU(), plain), plain, ModuleInputs((X,), {}), at_one=False)
        is None
    )


def test_what_modules_are_given_is_recorded_while_the_block_runs() -> None:
    inserted = joined(nn.Conv2d(6, 6, 1), [1.0])

    with recorded({"a": inserted.module}) as found:
        inserted(X)
    inserted(torch.zeros_like(X))

    assert torch.equal(found["a"].args[0], X)


def test_layer_in_half_precision_takes_the_gate_in_a_pass_in_float32() -> None:
    inserted = Insertion(nn.Conv2d(6, 6, 3, padding=1).half(), ADDED).half()
    with torch.no_grad():
        inserted.gate.fill_(0.5)  # type: ignore[union-attr] # the joint says that there is one

    made = without_gate(inserted, ADDED, ModuleInputs((X,), {}), at_one=False)

    assert made is not None
    assert made.layer == ""
    old, new = inserted.module.state_dict()["weight"], made.module.module.state_dict()["weight"]
    assert torch.equal(new, old * 0.5)
    assert new.dtype == torch.float16

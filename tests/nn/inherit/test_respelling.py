"""Weights of one module in the form of another.

Covers: attention_form, attention_readings, attention_rows, convolution.
"""

from typing import Any

import pytest
import torch
from torch import nn

from modswap.nn import (
    ACmix,
    BiLevelRoutingAttention,
    ConvGate,
    MultiHeadSelfAttention,
    SelfAttention,
    WindowAttention,
)
from modswap.nn.inherit.attention_readings import readings
from modswap.nn.inherit.attention_rows import ATTENTION_ROWS, UnfitFormError
from modswap.nn.inherit.convolution import (
    convolution_of,
    give_gate,
    give_mixed,
    mixed_arguments,
    read_convolution,
)
from modswap.nn.inherit.respelling import (
    assignments,
    hidden_channels,
    neutral_tensors,
    same_layers,
    tensors_of,
)
from tests.old_modules import Fused, OnMaps, Split, randomised

X = torch.randn(2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Known(nn.Module):
    """Attention that knows the size of a head and has a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {})()
        self.config.num_attention_heads = 4
        self.head_dim = 4
        self.kv = nn.Linear(16, 32)
        self.query = nn.Linear(16, 16)


def test_readings_of_torch_and_of_rows_are_certain() -> None:
    modules = [
        nn.MultiheadAttention(16, 2),
        nn.MultiheadAttention(16, 2, bias=False, add_zero_attn=True),
        BiLevelRoutingAttention(16, 2),
        BiLevelRoutingAttention(16, 2, param_attention="qkv"),
        SelfAttention(16, 2),
    ]

    found = [next(readings(module, 16)) for module in modules]

    assert all(one.certain for one in found)
    assert [len(one.names) for one in found] == [4, 2, 6, 4, 8]
    assert "zeros" in found[1].notes[0]


def test_attention_over_other_keys_is_no_self_attention() -> None:
    assert list(readings(nn.MultiheadAttention(16, 2, kdim=8), 16)) == []


@pytest.mark.parametrize(
    "module",
    [nn.Linear(16, 16), nn.Conv2d(16, 48, 3), nn.Sequential(*[nn.Linear(16, 16)] * 1), nn.ReLU(),
     nn.ModuleList(nn.Linear(16, 16) for _ in range(9))],
)  # fmt: skip
def test_other_layers_have_no_reading(module: nn.Module) -> None:
    assert list(readings(module, 16)) == []


def test_heads_are_those_that_attributes_name() -> None:
    module = Known()

    first = next(iter(readings(module, 16)))

    assert (first.heads, first.parts["k"].weight) == (4, "kv.weight")
    assert first.parts["k"].where("kv.weight") == "kv.weight (part 1 of 2)"
    assert next(iter(readings(Fused(24, 3), 24))).heads == 3


def taken(module: Any, channels: int = 16) -> Any:
    module.double()
    x = X[..., :channels]
    wanted = module(x)
    for reading in readings(module, channels):
        form = reading.taken(module.state_dict())
        if torch.allclose(form.attend(x), wanted):
            return form
    raise AssertionError("no reading computes the same")


@pytest.mark.parametrize(
    "new",
    [
        BiLevelRoutingAttention(16, 2, n_win=2, topk=4, layout="NHWC"),
        BiLevelRoutingAttention(16, 2, n_win=2, topk=4, qk_scale=0.1, side_dwconv=0),
        MultiHeadSelfAttention(16, 2, qkv_bias=True),
        WindowAttention(16, 2, 4),
    ],
)
@torch.no_grad()
def test_rows_hold_attention_in_double_precision(new: Any) -> None:
    old = randomised(Split())
    form = taken(old)
    new.double().eval()

    given = ATTENTION_ROWS[type(new)].give(form, new)
    new.load_state_dict({**new.state_dict(), **given.values})

    tokens = isinstance(new, MultiHeadSelfAttention)
    y = new(X) if tokens else new(X.unflatten(1, (4, 4))).flatten(1, 2)
    assert (y - old(X)).abs().max() < 1e-12
    assert set(given.sources) == set(given.values)


def test_form_without_an_output_gives_the_identity() -> None:
    old = randomised(BiLevelRoutingAttention(16, 2, n_win=1, topk=1, param_attention="qkv"))
    form = next(readings(old, 16)).taken(old.state_dict())

    given = ATTENTION_ROWS[MultiHeadSelfAttention].give(
        form, MultiHeadSelfAttention(16, 2, qkv_bias=True)
    )

    assert torch.equal(given.values["proj.weight"], torch.eye(16))
    assert given.sources["proj.weight"] == "identity"
    with pytest.raises(UnfitFormError, match="output projection"):
        ATTENTION_ROWS[BiLevelRoutingAttention].give(taken(randomised(Fused())), old)


def test_biases_without_a_place_are_noted() -> None:
    given = ATTENTION_ROWS[MultiHeadSelfAttention].give(
        taken(randomised(Fused())), MultiHeadSelfAttention(16, 2)
    )

    assert "qkv.bias" not in given.values
    assert "qkv_bias is false" in given.notes[0]


def test_arguments_follow_the_old_module() -> None:
    windowed = next(iter(readings(WindowAttention(16, 2, 4, 1, qkv_bias=False), 16)))
    causal = taken(randomised(SelfAttentionless())).reading

    assert ATTENTION_ROWS[WindowAttention].arguments(windowed, 16, 16) == {
        "num_heads": 2, "qkv_bias": False, "window_size": 4, "shift_size": 1,
    }  # fmt: skip
    routed = ATTENTION_ROWS[BiLevelRoutingAttention].arguments(causal, 16, 8)
    assert routed["qk_dim"] == 8
    assert ATTENTION_ROWS[SelfAttention].arguments(causal, 16, 16)["key_dim"] == 8


class SelfAttentionless(Fused):
    """Attention whose windows are the shifted ones of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.shift_size = [1, 1]


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)),
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.PReLU()),
        nn.Conv2d(4, 4, 3, padding_mode="reflect"),
        OnMaps(),
        nn.ReLU(),
    ],
)
def test_other_modules_are_no_convolution(module: nn.Module) -> None:
    assert read_convolution(module) is None


def test_activation_behind_a_convolution_is_noted() -> None:
    found = read_convolution(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.SiLU()))

    assert found is not None
    assert (found.conv, found.norm, found.notes) == ("0", "1", ("SiLU '2' is left out",))
    assert len(found.names) == 7


def test_norm_without_statistics_cannot_be_folded() -> None:
    old = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    reading = read_convolution(old)

    assert reading is not None
    with pytest.raises(UnfitFormError, match="keeps no statistics"):
        convolution_of(old, reading, old.state_dict())


@pytest.mark.parametrize(
    ("conv", "args", "message"),
    [
        (nn.Conv2d(4, 4, 3), {}, "with padding"),
        (nn.Conv2d(4, 4, 4, padding=2), {}, "which has an odd side"),
        (nn.Conv2d(4, 4, 5, padding=2), {}, "kernel_conv is 3"),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), {}, "its stride is"),
        (nn.Conv2d(4, 8, 3, padding=1), {}, "it maps 4 channels to 8"),
    ],
)
def test_convolution_that_the_path_cannot_hold_is_refused(
    conv: nn.Conv2d, args: dict[str, int], message: str
) -> None:
    reading = read_convolution(conv)
    assert reading is not None
    form = convolution_of(conv, reading, conv.state_dict())

    with pytest.raises(UnfitFormError, match=message):
        give_mixed(form, ACmix(4, 4, **args), ("weight", "bias"))


@torch.no_grad()
def test_bias_of_a_convolution_of_full_rank_is_held_away_from_the_border() -> None:
    conv = randomised(nn.Conv2d(16, 16, 3, padding=1)).double()
    nn.init.zeros_(conv.weight)
    conv.weight += torch.eye(16)[:, :, None, None] * torch.arange(1.0, 10).view(3, 3)
    reading = read_convolution(conv)
    assert reading is not None
    new = ACmix(16, 16, kernel_att=1, head=2, **mixed_arguments(conv)).double()

    given = give_mixed(convolution_of(conv, reading, tensors_of(conv)), new, ("weight", "bias"))
    new.load_state_dict({**new.state_dict(), **given.values})

    x = torch.randn(1, 16, 8, 8, dtype=torch.float64)
    assert (new(x) - conv(x)).abs().max() < 1e-6  # the attention's rate is held in float32
    assert "exactly" in given.notes[-1]


def test_gate_of_another_convolution_is_refused() -> None:
    conv = nn.Conv2d(4, 4, 1)
    reading = read_convolution(conv)
    assert reading is not None

    with pytest.raises(UnfitFormError, match="its kernel_size is"):
        give_gate(reading, ConvGate(4), conv.state_dict())


def test_gate_without_a_norm_in_the_old_module_has_one_at_rest() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    reading = read_convolution(conv)
    assert reading is not None
    gate = ConvGate(4).eval()

    given = give_gate(reading, gate, conv.state_dict())
    gate.load_state_dict({**gate.state_dict(), **given.values})

    x = torch.randn(1, 4, 6, 6)
    assert torch.allclose(gate(x), conv(x).relu(), atol=1e-6)
    assert given.sources["bn.weight"] == "identity"


def test_tensors_of_one_shape_are_tried_in_each_order() -> None:
    old = {"a.weight": torch.zeros(4, 2), "b.weight": torch.ones(4, 2), "c.bias": torch.ones(4)}
    new = {"x.weight": torch.empty(4, 2, 1, 1), "y.weight": torch.empty(4, 2, 1, 1)}

    found = [dict(one.sources) for one in assignments(old, new)]

    assert {"x.weight": "b.weight", "y.weight": "a.weight"} in found
    assert next(one.left(old) for one in assignments(old, new)) == ["c.bias"]
    first = next(iter(assignments(old, new)))
    assert first.values(old, new)["y.weight"].shape == (4, 2, 1, 1)


def test_own_names_need_no_search() -> None:
    old = tensors_of(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))

    assert len(list(assignments(old, old))) == 1


def test_neutral_values_change_nothing() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    names = list(tensors_of(module))

    found = neutral_tensors(module, names)

    assert "1.weight" not in found
    module.load_state_dict({**module.state_dict(), **found})
    x = torch.randn(1, 3, 2, 2)
    assert torch.allclose(module.eval()[0](x), x, atol=1e-6)


def test_hidden_channels_are_those_of_the_first_linear_map() -> None:
    module = nn.Sequential(nn.Conv2d(8, 3, 3), nn.Conv2d(8, 2, 1), nn.Linear(8, 5))

    assert hidden_channels(module, 8) == 2
    assert hidden_channels(module, 7) == 0


def test_layers_are_the_same_by_class_names_and_shapes() -> None:
    assert same_layers(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding=1))
    assert not same_layers(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1))
    assert not same_layers(nn.ReLU(), nn.ReLU())

"""Costs of models and sites, limits, and the memory of passes.

Covers: meter.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.recipe import Recipe, TensorInput
from modswap.core.errors import InputError, ShapeError
from modswap.core.finding import Finding
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.nn.acmix import ACmix
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.measure.cost import costs_of
from modswap.ops.measure.memory import MAX_READ_BYTES
from modswap.ops.measure.timing import unread
from modswap.ops.run.inputs import Case, DummyCall
from tests.models import GatedNet, ManyCalls, SharedNet, Strided, TokenNet
from tests.ops.measure.real_costs import real_costs

# oneDNN is switched off: it runs an LSTM as one operator that no counter knows
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
ALLOW = ("tests.models.*", "torch.nn.*")


class Heads(nn.Module):
    """Multi-head attention: (N, L, 32) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
        return out


class Recurrent(nn.Module):
    """An LSTM: (N, L, 16) -> (N, L, 24)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 24, num_layers=2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.lstm(x)[0]
        return out


def routed() -> nn.Module:
    return BiLevelRoutingAttention(32, num_heads=2, layout="NCHW")


def masked() -> nn.Module:
    return BiLevelRoutingAttention(32, layout="NCHW", auto_pad=True, mask_padding=True)


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (GatedNet, (2, 3, 32, 32)),
    "strided": (Strided, (2, 8, 32, 32)),
    "tokens": (TokenNet, (2, 3, 32, 32)),
    "routed": (routed, (2, 32, 28, 28)),
    "routed and masked": (masked, (1, 32, 30, 30)),
    "acmix": (lambda: ACmix(16, 16), (2, 16, 28, 28)),
    "heads": (Heads, (2, 50, 32)),
    "encoder": (encoder, (2, 50, 32)),
    "recurrent": (Recurrent, (2, 7, 16)),
}


def case_of(shape: tuple[int, ...]) -> Case:
    return Case(DummyCall((TensorInput(shape=shape),), {}))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def _attention(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q, k, v))


def _routing(q: torch.Size, kv: torch.Size, indices: torch.Size, *_: Any, **__: Any) -> int:
    N, P, L, c = q
    C = kv[3] - c
    return 2 * N * P * L * indices[2] * kv[2] * (c + C)


# kernels that torch's counter has no formula for
MORE = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.modswap.routed_attention: _routing,
}


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_those_of_torch_on_a_real_pass(name: str) -> None:
    make, shape = MODELS[name]
    model = seeded(make)

    counter = FlopCounterMode(display=False, custom_mapping=MORE)
    with torch.backends.mkldnn.flags(enabled=False), counter:
        model(torch.randn(shape))  # gradients on: else one kernel would take all of an encoder
    found = costs_of(model, case_of(shape)).model.flops

    assert found == counter.get_total_flops() > 0


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", MODELS)
def test_prediction_is_within_a_seventh_of_the_same_count_on_real_tensors(name: str) -> None:
    make, shape = MODELS[name]
    model = seeded(make)

    found = costs_of(model, case_of(shape)).model
    with torch.backends.mkldnn.flags(enabled=name != "recurrent"):
        real = real_costs(model, (torch.randn(shape),))

    assert found.flops == real.flops
    assert found.peak_inference == pytest.approx(real.peak_inference, rel=0.15)
    assert found.peak_training == pytest.approx(real.peak_training, rel=0.15)
    assert found.activation_bytes == pytest.approx(real.activation_bytes, rel=0.15)


def recipe(match: str = '"{space,channel}_attention"', more: str = "") -> Recipe:
    text = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{more}\nreplace:\n"
    text += f"  - {{match: {match}, with: BiLevelRoutingAttention}}\n"
    return parse_recipe(text, "swap.yaml", ".")


def job(tmp_path: Path, rules: Recipe, max_memory: int | None = None) -> Job:
    file = tmp_path / "net.pt"
    torch.save(seeded(GatedNet), file)
    return Job(Subject(file, Policy(allow=ALLOW)), rules, max_memory=max_memory)


def findings(outcome: Outcome, check: str) -> list[Finding]:
    assert outcome.verdict is not None
    return [found for found in outcome.verdict.findings if found.check == check]


def test_shared_site_and_several_calls_are_counted_each() -> None:
    shared = seeded(SharedNet)
    many = seeded(ManyCalls)

    once = costs_of(shared, case_of((1, 8, 8, 8)), {"first": shared.get_submodule("first")})
    calls = costs_of(many, case_of((1, 4, 8, 8)), {"mix": many.get_submodule("mix")})

    assert once.sites["first"].flops == once.model.flops == 2 * (2 * 64 * 8 * 8 * 9)
    assert calls.sites["mix"].flops == 2 * (64 + 16) * 4 * 4 * 9


def test_module_that_the_pass_does_not_reach_has_no_cost() -> None:
    model = seeded(ManyCalls)

    found = costs_of(model, case_of((1, 4, 8, 8)), {"unused": model.get_submodule("unused")})

    assert found.unknown == {"unused": "ValueError: the pass does not reach it"}


def test_counting_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = GatedNet().eval()
    model.space_attention.train()
    model.stem.weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()

    costs_of(model, case_of((2, 3, 28, 28)), {"stem": model.get_submodule("stem")})

    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [name for name, m in model.named_modules() if m.training] == [
        name for name, _ in model.named_modules() if name.startswith("space_attention")
    ]
    assert not model.stem.weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


class WithTable(nn.Module):
    """A convolution and a tensor that is no buffer, so that meta tensors fail."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.table = torch.ones(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out * self.table


def test_training_is_counted_on_fake_tensors_where_meta_tensors_do_not_go() -> None:
    plain = WithTable()
    plain.register_buffer("held", plain.table)
    vars(plain).pop("table")
    plain.forward = lambda x: plain.conv(x) * plain.held  # type: ignore[method-assign] # the same

    found = costs_of(WithTable(), case_of((2, 3, 8, 8))).model

    expected = costs_of(plain, case_of((2, 3, 8, 8))).model
    assert (found.flops, found.params) == (expected.flops, expected.params)
    assert found.peak_training > found.peak_inference > 0


def test_frozen_layers_need_no_gradients() -> None:
    model = seeded(GatedNet)
    whole = costs_of(model, case_of((1, 3, 28, 28))).model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))

    partly = costs_of(model, case_of((1, 3, 28, 28))).model

    assert partly.activation_bytes < whole.activation_bytes
    assert partly.peak_training < whole.peak_training


def test_model_that_refuses_one_value_in_training_is_counted_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3)).eval()

    assert costs_of(model, case_of((1, 3, 8, 8))).model.peak_training > 0


def test_real_pass_is_made_only_where_the_weights_are_there_and_few() -> None:
    small, large = GatedNet(), nn.Module()
    large.register_buffer("table", torch.empty(MAX_READ_BYTES // 4 + 1))  # no page of it is touched

    assert unread(small, unreal=True) == ""
    assert unread(large, unreal=False) == ""
    assert unread(large, unreal=True) == "a real pass would read 256 MiB of weights"
    assert "the weights were not read" in unread(small.to("meta"), unreal=True)


@pytest.mark.parametrize("command", [check_file, replace_file])
def test_too_large_an_input_is_refused_before_anything_is_allocated(
    command: Callable[[Job], Outcome], tmp_path: Path
) -> None:
    text = "version: 1\ninputs: [{shape: [16000, 3, 2240, 2240]}]\nreplace:\n"
    text += '  - {match: "*_attention", with: BiLevelRoutingAttention}\n'

    with pytest.raises(ShapeError, match=r"would take .* TiB, --max-memory is") as caught:
        command(job(tmp_path, parse_recipe(text, "swap.yaml", "."), max_memory=1 << 30))

    assert (caught.value.where, caught.value.code) == ("inputs", 1)


def test_pass_beyond_this_machine_is_refused_without_being_asked(tmp_path: Path) -> None:
    text = "version: 1\ninputs: [{shape: [16000, 3, 2240, 2240]}]\nreplace:\n"
    text += '  - {match: "*_attention", with: BiLevelRoutingAttention}\n'

    with pytest.raises(InputError, match="the memory free on this machine is") as caught:
        replace_file(job(tmp_path, parse_recipe(text, "swap.yaml", ".")))

    assert "modswap check" in caught.value.fix


def test_site_that_takes_most_is_named(tmp_path: Path) -> None:
    before = costs_of(seeded(GatedNet), case_of((1, 3, 28, 28))).model.peak_inference

    outcome = check_file(job(tmp_path, recipe("space_attention"), max_memory=before + 1))

    assert isinstance(outcome.error, ShapeError)
    assert outcome.error.where == "space_attention"
    assert "this site alone" in outcome.error.what
    assert "raise --max-memory" in outcome.error.fix

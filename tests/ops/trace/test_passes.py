"""Passes record calls, and leave the model as it was.

Covers: recorder, sites.
"""

import copy
import random
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.seen.site import Site
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace
from modswap.ops.trace.sites import sites_of
from tests.models import GatedNet, ManyCalls, PairNet, SharedNet, TokenNet


def case(*shape: int, mode: str = "eval", dtype: str | None = None) -> Case:
    return Case(DummyCall((TensorInput(shape=shape),), {}), mode, dtype)


def sites(model: nn.Module, *shape: int) -> dict[str, Site]:
    return {site.path: site for site in sites_of(model, (trace(model, case(*shape)),))}


def test_site_knows_its_class_shapes_layout_and_flags() -> None:
    model = GatedNet().to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload] # missing in the stubs
    model.channel_attention.requires_grad_(requires_grad=False)

    gate = sites(model, 1, 3, 8, 8)["channel_attention"]

    assert gate.class_name == "torch.nn.modules.container.Sequential"
    assert str(gate.calls[0]) == "((1, 16, 4, 4)) -> (1, 16, 4, 4)"
    assert gate.layout == "NCHW"
    assert gate.params == 16 * 16 * 9 + 16 + 2 * 16
    assert gate.nbytes == 4 * (gate.params + 2 * 16) + 8
    assert (gate.training, gate.trainable, gate.channels_last) == (False, False, True)


def test_module_itself_is_no_site() -> None:
    assert "" not in sites(GatedNet(), 1, 3, 8, 8)


def test_shared_module_is_one_site_with_its_aliases_and_every_call() -> None:
    found = sites(SharedNet(), 1, 8, 4, 4)

    assert found["first"].aliases == ("second",)
    assert len(found["first"].calls) == 2
    assert "second" not in found


def test_every_call_is_recorded_with_keywords_and_none() -> None:
    found = sites(ManyCalls(), 1, 4, 8, 8)

    assert [str(call) for call in found["mix"].calls] == [
        "((1, 4, 8, 8)) -> (1, 4, 8, 8)",
        "((1, 4, 4, 4), mask=None) -> (1, 4, 4, 4)",
    ]
    assert found["unused"].calls == ()


def test_structure_of_the_output_is_kept() -> None:
    seen = trace(ManyCalls(), case(1, 4, 8, 8)).seen

    assert str(seen.output) == "dict[high=(1, 4, 8, 8), levels=tuple[(1, 4, 4, 4), None]]"
    assert seen.finite is True


def test_tokens_and_pairs_are_recorded() -> None:
    attn = sites(PairNet(), 2, 9, 16)["attn"]

    assert attn.layout == "NLC"
    assert str(attn.calls[0]) == "((2, 9, 16), mask=None) -> tuple[(2, 9, 16), None]"


def test_exception_is_part_of_what_is_returned() -> None:
    model = GatedNet()

    one = trace(model, case(1, 4, 8, 8))

    assert one.seen.raised_in == "stem"
    assert one.seen.error.startswith("RuntimeError: Given groups=1, weight of size [16, 3, 3, 3]")
    assert one.seen.output is None


def test_infinite_output_is_seen() -> None:
    model = GatedNet()
    nn.init.constant_(model.head.weight, float("inf"))

    assert trace(model, case(1, 3, 8, 8)).seen.finite is False


class Restless(nn.Module):
    """Changes all of its state during a pass."""

    steps: torch.Tensor
    replaced: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))
        self.cache: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        self.replaced = self.replaced + 1
        self.cache = x
        self.late = x
        self.norm.register_forward_hook(lambda module, args, output: None)
        self.train()
        random.random()
        out: torch.Tensor = self.norm(nn.functional.dropout(x, training=True))
        return out


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("unreal", [False, True])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_pass_leaves_no_trace(mode: str, unreal: bool, dtype: str | None) -> None:
    restless = Restless()
    model = nn.Sequential(restless, nn.Dropout(), GatedNet())
    restless.norm.eval()  # a frozen norm in a model that trains
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    states = (torch.get_rng_state(), random.getstate())

    one = trace(model, case(2, 3, 8, 8, mode=mode, dtype=dtype), unreal=unreal)

    assert not one.seen.error
    assert one.seen.output is not None
    assert f"(2, 2, 4, 4){' bfloat16' if dtype else ''}" == str(one.seen.output)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [module.training for module in model.modules()] == flags
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert restless.cache is None
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_same_seed_sees_the_same() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 3, 1))
    outputs: list[torch.Tensor] = []
    model.register_forward_hook(lambda m, args, output: outputs.append(output.clone()))

    for _ in range(2):
        trace(model, case(1, 3, 4, 4, mode="train"), seed=3)

    assert torch.equal(*outputs)


def test_fake_pass_sees_the_same_shapes_without_values() -> None:
    model = TokenNet()
    real, fake = (trace(model, case(1, 3, 16, 16), unreal=unreal) for unreal in (False, True))

    assert fake.seen.visits == real.seen.visits
    assert fake.seen.output == real.seen.output
    assert (real.seen.finite, fake.seen.finite) == (True, None)


class Caching(nn.Module):
    """A table by size, a list and a set of its inputs, none of them a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[tuple[int, ...], torch.Tensor] = {}
        self.seen: list[int] = [3]
        self.sizes: set[int] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = tuple(x.shape[2:])
        self.seen.append(size[0])
        self.sizes.add(size[0])
        if size not in self.tables:
            self.tables[size] = torch.zeros(size, device=x.device)
        return x + self.tables[size]


@pytest.mark.parametrize("unreal", [False, True])
def test_what_a_module_keeps_in_its_own_tables_is_put_back(unreal: bool) -> None:
    caching = Caching()
    tables = caching.tables

    seen = trace(nn.Sequential(nn.Conv2d(3, 3, 1), caching), case(1, 3, 8, 8), unreal=unreal)

    assert seen.cause is None
    assert caching.tables is tables
    assert (tables, caching.seen, caching.sizes) == ({}, [3], set())


def test_padding_mask_of_an_encoder_is_traced_without_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    mask = TensorInput(shape=(2, 5), dtype="bool", fill="zeros")
    call = DummyCall((TensorInput(shape=(2, 5, 8)),), {"src_key_padding_mask": mask})

    seen = trace(model, Case(call), unreal=True)

    assert seen.cause is None
    assert torch.backends.mha.get_fastpath_enabled()


class Attending(nn.Module):
    """Passes one tensor three times to its attention, then two of one shape: (N, L, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attn(x, x, value=x)[0]
        y: torch.Tensor = self.attn(x, x + 1, value=x)[0]
        return y


@pytest.mark.parametrize("unreal", [False, True])
def test_call_records_which_of_its_tensors_are_one_object(unreal: bool) -> None:
    model = Attending().eval()

    seen = trace(model, case(1, 5, 8), unreal=unreal).seen

    assert [call.same for call in seen.by_path()["attn"]] == [(0, 0, 0), (0, 1, 0)]


class OffMeta(Attending):
    """Refuses torch's meta device, and wants no attention weights: (N, L, 8)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "meta":
            raise RuntimeError("not on this device")
        y: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
        return y


@pytest.mark.parametrize("unreal", [False, True])
def test_attention_without_data_gives_what_it_gives_with_data(unreal: bool) -> None:
    seen = trace(OffMeta().eval(), case(1, 5, 8), unreal=unreal).seen

    assert str(seen.by_path()["attn"][0].output) == "tuple[(1, 5, 8), None]"
    assert torch.backends.mha.get_fastpath_enabled()


class Reading(nn.Module):
    """Reads an attribute that its layer lacks: (N, L, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner[0](x) * self.inner[0].scale
        return y


def test_attribute_that_a_module_has_not_is_reported_with_its_path() -> None:
    seen = trace(Reading(), case(1, 5, 8)).seen

    assert (seen.missing, seen.missing_at, seen.raised_in) == ("scale", "inner.0", "")

"""Inputs, autocast and clocks follow the model's device (`devices`, `forward`)."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import UsageError
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.measure import timing
from modswap.ops.run.devices import (
    autocast_type,
    device_asked,
    device_of,
    devices_here,
    devices_of,
    is_without_data,
    synchronize,
)
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace import passes
from tests.models import GatedNet

CASE = Case(DummyCall((TensorInput(shape=(2, 3, 28, 28)),), {}))
META = torch.device("meta")
RECIPE = """
version: 1
inputs: [{shape: [2, 3, 28, 28]}]
replace:
  - {match: space_attention, with: BiLevelRoutingAttention, args: {n_win: 7}}
"""


def test_model_without_tensors_is_on_the_cpu() -> None:
    assert devices_of(nn.Identity()) == (torch.device("cpu"),)


def test_devices_are_those_of_parameters_and_buffers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).to("meta"))

    assert devices_of(model) == (torch.device("cpu"), META)
    assert device_of(model) == torch.device("cpu")
    assert is_without_data(model)


def test_inputs_are_made_on_the_device_of_the_model() -> None:
    model = GatedNet().to("meta")

    with ready(model, CASE, seed=0) as (args, kwargs, dtype):
        output = run_model(model, args, kwargs, dtype=dtype, stand_ins=None)

    assert args[0].device == META
    assert output.device == META


def test_inputs_of_a_trace_are_made_on_the_device_of_the_model() -> None:
    (made,), _ = passes._inputs(GatedNet().to("meta"), CASE, seed=0)

    assert made.device == META


def test_inputs_are_the_same_on_every_device_for_a_seed() -> None:
    (here,), _ = CASE.call.live(3)
    (again,), _ = CASE.call.live(3, device=torch.device("cpu"))

    assert torch.equal(here, again)


def test_inputs_of_a_model_in_double_precision_are_double() -> None:
    seen = passes.trace(GatedNet().double(), CASE).seen

    assert seen.error == ""
    assert seen.visits[0].call.args[0].dtype == "float64"  # type: ignore[union-attr] # a tensor


def test_model_without_data_is_swapped_by_its_shapes() -> None:
    model = GatedNet().to("meta")

    outcome = modswap.replace(model, parse_recipe(RECIPE, "swap.yaml", "."))

    assert outcome.verdict is not None
    assert outcome.verdict.ok
    assert {p.device for p in model.parameters()} == {META}


@pytest.mark.parametrize(("device", "kind"), [("cpu", "cpu"), ("cuda:1", "cuda"), ("meta", "cpu")])
def test_autocast_is_that_of_the_device(device: str, kind: str) -> None:
    assert autocast_type(torch.device(device)) == kind


def test_pass_under_autocast_uses_the_kind_of_the_models_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[tuple[str, bool]] = []

    def autocast(kind: str, _: torch.dtype, *, enabled: bool) -> nullcontext[None]:
        used.append((kind, enabled))
        return nullcontext()

    monkeypatch.setattr(passes, "autocast_type", {torch.device("cpu"): "cuda"}.__getitem__)
    monkeypatch.setattr(torch, "autocast", autocast)

    assert passes.trace(GatedNet(), replace(CASE, autocast=True)).seen.error == ""
    assert used == [("cuda", True)]


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Return the devices that were waited for; none of them exists."""
    found: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", found.append)
    return found


def test_only_devices_that_lag_behind_are_waited_for(waited: list[torch.device]) -> None:
    synchronize(map(torch.device, ("cpu", "cuda:0", "meta", "cuda:1")))

    assert waited == [torch.device("cuda:0"), torch.device("cuda:1")]


def test_latency_waits_for_the_device_before_and_after_each_pass(
    waited: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "devices_of", lambda _: (torch.device("cuda:0"),))
    passes: list[int] = []
    model = GatedNet().eval()
    model.register_forward_hook(lambda *_: passes.append(len(waited)))

    timing.latency(model, CASE)

    assert passes == list(range(1, 2 * len(passes), 2))
    assert len(waited) == 2 * len(passes)


def test_named_device_is_one_that_computes_values() -> None:
    assert device_asked("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "why"), [("meta", "no model is run on meta"), ("gpu", "")])
def test_other_names_of_devices_are_refused(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"device '{name}' cannot be used: .*{why}") as raised:
        device_asked(name)

    assert raised.value.fix.startswith("name a device of this machine: cpu")


def test_devices_of_a_machine_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert devices_here() == ("cpu", "cuda:0", "cuda:1", "mps")

"""Gates of 0 that keep every bit, and faults that break that."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.nn.insertion import Insertion
from modswap.ops.examine import preserved as examination
from modswap.ops.examine.bench import Bench
from modswap.ops.recipes import parse_recipe
from modswap.ops.swap import prepare, verified

X = "version: 1\ninputs: [{shape: [2, 8, 8, 8]}]\n"


def found(model: nn.Module, rule: str, *, unreal: bool = True) -> Sequence[Finding]:
    recipe = parse_recipe(f"{X}{rule}\n", "swap.yaml", ".")
    prepared = prepare(model, recipe, unreal=unreal)
    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, recipe)
        return list(examination.preserved(bench))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    parts = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*parts, nn.Conv2d(8, 8, 1))


@pytest.mark.parametrize("unreal", [True, False])
@pytest.mark.parametrize(
    "rule",
    [
        "insert: [{after: '{0,2}', with: CBAM}, {around: '1', with: ECA}]",
        "insert: [{before: '4', with: 'torch.nn:Dropout'}]",
        "replace: [{match: '0', with: ECA, start: preserve}]",
    ],
)
def test_outputs_and_gradients_stay_in_every_bit(rule: str, unreal: bool) -> None:
    (one,) = found(net(), rule, unreal=unreal)

    assert (one.status, one.path) == ("passed", "")
    assert one.what == "equal in every bit in evaluation, autocast, training"


def test_without_gates_there_is_nothing_to_compare() -> None:
    assert found(net(), "insert: [{after: '0', with: CBAM, start: fresh}]") == []
    assert found(net(), "replace: [{match: '0', with: ECA}]") == []


def test_a_sum_with_zero_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(self: Insertion, x: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        assert self.gate is not None
        return x + self.gate.view(-1, 1, 1) * new  # -0 becomes +0

    monkeypatch.setattr(Insertion, "_mixed", mixed)
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardtanh(0.0, 1.0), Negative())

    (one,) = found(model, "insert: [{after: '2', with: 'torch.nn:Tanh'}]", unreal=False)

    assert one.status == "failed"
    assert "its outputs are others" in one.what


class Negative(nn.Module):
    """Give -0 for 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


def test_gradients_of_others_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(self: Insertion, x: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        assert self.gate is not None
        return x.detach() + self.gate.view(-1, 1, 1) * new + (x - x.detach()) * 0

    monkeypatch.setattr(Insertion, "_mixed", mixed)

    (one,) = found(net(), "insert: [{after: '0', with: 'torch.nn:Tanh'}]")

    assert one.status == "failed"
    assert "the gradient of" in one.what


class Varying(nn.Module):
    """Gives other gradients from run to run, on several threads or always."""

    runs = 0

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.always = always

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Varying.runs += 1
        noise = Varying.runs * 1e-3 if self.always or torch.get_num_threads() > 1 else 0.0
        return x.detach() + (x - x.detach()) * (1 + noise)


NOT_COMPARED = "not compared in training, where the original differs from itself from run to run"


@pytest.mark.parametrize(
    ("always", "what"),
    [
        (False, "equal in every bit in evaluation, autocast, training"),
        (True, f"equal in every bit in evaluation, autocast; {NOT_COMPARED}"),
    ],
)
def test_gradients_that_vary_by_themselves_are_no_fault(*, always: bool, what: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = nn.Sequential(nn.Conv2d(8, 8, 1), Varying(always=always))
        (one,) = found(model, "insert: [{after: '0', with: CBAM}]", unreal=False)
    finally:
        torch.set_num_threads(threads)

    assert (one.status, one.what) == ("passed", what)


def test_a_gate_behind_which_the_host_multiplies_by_zero_is_named() -> None:
    model = net()
    weight = model[1].weight
    assert isinstance(weight, nn.Parameter)
    weight.data.zero_()

    first, second = found(model, "insert: [{after: '0', with: CBAM}]", unreal=False)

    assert (first.path, first.what) == ("0.cbam", examination.NO_GRADIENT)
    assert second.status == "passed"


def test_a_model_that_is_too_large_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "MAX_MACS", 0)

    (one,) = found(net(), "insert: [{after: '0', with: CBAM}]")

    assert one.status == "skipped"
    assert "`--thorough` takes that time" in one.what

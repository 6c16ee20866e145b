"""A large model is built without memory for its weights, and holds the values of a full build."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import RecipeError
from modswap.ops.load import sparing as module
from modswap.ops.load.factory import Factory, call_factory
from modswap.ops.load.fill import fill, stored_in
from modswap.ops.load.sparing import Sparing, built, sparing

SIDE = 600  # a matrix of it is above the smallest size that is spared


class Common(nn.Module):
    """What models of the field do in their constructors, on large and on small tensors."""

    def __init__(self) -> None:
        super().__init__()
        linear, norm = nn.Linear(SIDE, SIDE), nn.LayerNorm(SIDE)
        self.body = nn.Sequential(linear, norm)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 4)]
        self.scaled = nn.Parameter(torch.randn(SIDE, SIDE) * 0.02)
        self.truncated = nn.Parameter(torch.zeros(SIDE, SIDE))
        nn.init.trunc_normal_(self.truncated, std=0.02)
        nn.init.trunc_normal_(norm.weight, std=0.02)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.rows = nn.Embedding(SIDE, SIDE, padding_idx=0)
        self.tied = nn.Linear(SIDE, SIDE, bias=False)
        self.tied.weight = self.rows.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(SIDE, SIDE))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(SIDE, SIDE))
        self.twin = copy.deepcopy(self.body)
        self.reduced = nn.Linear(SIDE, SIDE * 2).half()
        self.joined = nn.Parameter(torch.cat([self.scaled.detach(), torch.ones(SIDE, SIDE)]))


class Kept(Common):
    """Holds tensors that no file holds, whose values follow from no random number."""

    def __init__(self) -> None:
        super().__init__()
        mask = torch.tril(torch.ones(SIDE, SIDE))
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("ones", torch.ones(SIDE, SIDE), persistent=False)
        self.register_buffer("fives", torch.empty(SIDE, SIDE).fill_(5.0), persistent=False)
        self.table = torch.zeros(SIDE, SIDE)
        self.overlapped = torch.zeros(SIDE * SIDE)
        self.overlapped.as_strided((SIDE, SIDE), (0, 1)).fill_(4)
        self.turned = torch.zeros(SIDE, SIDE).t().fill_(3)
        self.table[3:] = torch.arange(SIDE).float()
        self.tables = {"index": torch.full((SIDE, SIDE), 7, dtype=torch.long)}
        self.doubled = torch.ones(SIDE, SIDE).mul_(2)
        self.as_list = torch.zeros(SIDE, SIDE).numpy()[0, :3].tolist()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def filled(
    weights: dict[str, torch.Tensor], factory: Callable[[], Any]
) -> tuple[Any, tuple[str, ...]]:
    """Return a factory's model with the weights, as `load` builds it."""
    named = Factory(factory, "net:build", "swap.yaml", RecipeError)

    def attempt(building: AbstractContextManager[None]) -> nn.Module:
        with building:
            model = call_factory(named)
        stored = stored_in(model, weights, (), None, "net.pt", of_library=False)
        fill(model, stored, named, "net.pt")
        return model

    return built(weights, attempt)


@pytest.fixture(autouse=True)
def _every_model_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_WEIGHTS_BYTES", 0)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the bytes of large tensors that got values while a model was built."""
    found: list[int] = []
    write = Sparing._write

    def counted(self: Sparing, blank: Any) -> None:
        found.append(blank.storage.nbytes())
        write(self, blank)

    monkeypatch.setattr(Sparing, "_write", counted)
    return found


def test_model_of_common_parts_gets_the_weights_and_no_values_before(computed: list[int]) -> None:
    full = Common()
    weights = weights_of(full)

    model, notes = filled(weights, Common)

    assert notes == ()
    assert model.rates == full.rates
    assert model.tied.weight is model.rows.weight
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert computed == []


@pytest.mark.slow
@pytest.mark.ci
def test_tensors_that_are_in_no_file_have_their_values() -> None:
    full = Kept()

    model, notes = filled(weights_of(full), Kept)

    assert notes == ()
    for name in ("mask", "ones", "fives", "table", "doubled", "overlapped", "turned"):
        assert torch.equal(getattr(model, name), getattr(full, name)), name
    assert torch.equal(model.tables["index"], full.tables["index"])
    assert model.as_list == [0.0, 0.0, 0.0]


def random_buffer(model: Any) -> None:
    model.register_buffer("basis", torch.randn(SIDE, SIDE), persistent=False)


def small_random_buffer(model: Any) -> None:
    model.register_buffer("basis", torch.randn(3), persistent=False)


def hidden_tensor(model: Any) -> None:
    kept = torch.rand(SIDE, SIDE) + 1
    model.scale = lambda: kept


def derived_tensor(model: Any) -> None:
    model.total = model.linear.weight.detach().sum(0)


def decision(model: Any) -> None:
    model.large = bool((model.linear.weight > 0).any())


def reading(model: Any) -> None:
    model.first = model.linear.weight.detach().numpy()[0, 0].item()


def swallowed(model: Any) -> None:
    try:
        model.first = model.linear.weight[0, 0].item()
    except Exception:  # noqa: BLE001 - as a host library may
        model.first = None


def small_decision(model: Any) -> None:
    model.drawn = torch.rand(1).item()


def written_small(model: Any) -> None:
    model.row = torch.zeros(SIDE)
    model.row.copy_(model.linear.weight.detach()[0])


def several_at_once(model: Any) -> None:
    torch._foreach_add_([model.linear.weight.detach()], 1.0)
    model.first = 1


@pytest.mark.parametrize(
    "part",
    [
        *(random_buffer, decision, reading, swallowed, small_decision, several_at_once),
        *(
            pytest.param(part, marks=pytest.mark.slow)  # two seconds each
            for part in (small_random_buffer, hidden_tensor, derived_tensor, written_small)
        ),
    ],
)
def test_model_whose_values_are_needed_is_built_in_full(part: Callable[[nn.Module], None]) -> None:
    def build() -> Any:
        torch.manual_seed(3)
        model: Any = nn.Module()
        model.linear = nn.Linear(SIDE, SIDE)
        part(model)
        return model

    full = build()

    model, notes = filled(weights_of(full), build)

    assert len(notes) == 1
    assert notes[0].startswith("building the model took memory for all its weights, 0.0 GiB: ")
    for name, value in vars(full).items():
        if isinstance(value, (torch.Tensor, float, bool, int)):
            assert torch.equal(torch.as_tensor(vars(model)[name]), torch.as_tensor(value)), name
    if "basis" in full._buffers:
        assert torch.equal(model.basis, full.basis)
    if part is hidden_tensor:
        assert torch.equal(model.scale(), full.scale())


def test_factory_that_raises_raises_its_own_error() -> None:
    def build() -> nn.Module:
        raise ValueError("no such size")

    with pytest.raises(RecipeError, match="raised ValueError: no such size"):
        filled({}, build)


def test_misfit_is_reported_once() -> None:
    calls = []

    def build() -> nn.Module:
        calls.append(1)
        return nn.Linear(SIDE, SIDE)

    with pytest.raises(RecipeError, match="does not fit the weights"):
        filled({"other": torch.ones(2)}, build)

    assert calls == [1]


def test_small_model_is_built_as_its_factory_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_WEIGHTS_BYTES", 1 << 40)
    full = nn.Linear(SIDE, SIDE)

    _, notes = filled(weights_of(full), lambda: nn.Linear(SIDE, SIDE))

    assert notes == ()


def test_tensors_of_other_devices_are_as_ever() -> None:
    with sparing() as mode:
        shape = torch.empty(SIDE, SIDE, device="meta")
        sparse = torch.eye(3).to_sparse()
        moved = torch.randn(SIDE, SIDE).to("meta")

    mode.settle()
    assert shape.is_meta
    assert sparse.is_sparse
    assert moved.is_meta


def test_initialisers_of_torch_are_as_before_after_a_block() -> None:
    before = vars(nn.init).get("_no_grad_trunc_normal_")

    with sparing():
        assert vars(nn.init)["_no_grad_trunc_normal_"] is not before

    assert vars(nn.init)["_no_grad_trunc_normal_"] is before

"""Copies of modules and models, with their own or random weights.

Covers: random_weights.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.ops.run import model_copy
from modswap.ops.run.model_copy import copied_model, nbytes_of, outputs_differ, too_large
from modswap.ops.run.random_weights import UnfitError, copied, placeholders
from tests.models import GatedNet


class Indexed(nn.Module):
    """A module with a table of indices."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(length))


@pytest.mark.parametrize("unreal", [True, False])
def test_copy_shares_no_tensor_and_is_in_evaluation_mode(unreal: bool) -> None:
    model = GatedNet().train()

    twin = copied_model(model, unreal=unreal)

    assert not any(module.training for module in twin.modules())
    assert model.training
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(a.data_ptr() != b.data_ptr() and a.dtype == b.dtype for a, b in pairs)
    assert torch.equal(twin.stem.weight, model.stem.weight) is not unreal  # type: ignore[union-attr, arg-type] # a layer


def test_weights_on_no_device_are_drawn_alike_for_a_seed() -> None:
    model = GatedNet().to("meta")

    first, again, other = (copied_model(model, unreal=True, seed=seed) for seed in (1, 1, 2))

    weights = [twin.get_parameter("stem.weight") for twin in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_small_tables_are_copied_and_large_ones_refused() -> None:
    assert copied(Indexed(4), {}).get_buffer("table").tolist() == [0, 1, 2, 3]
    with pytest.raises(UnfitError, match="its buffer 'table' holds 1600000 bytes"):
        copied(Indexed(200_000), {})


def test_module_without_a_shape_yet_is_refused() -> None:
    with pytest.raises(UnfitError, match="its parameter 'weight' has no shape yet"):
        copied(nn.LazyLinear(2), {})


def test_reference_to_another_module_is_copied_without_its_weights() -> None:
    module, parent = nn.Linear(2, 2), nn.Linear(3, 3)
    vars(module)["parent"] = [parent]

    twin = copied(module, placeholders(parent))

    (found,) = vars(twin)["parent"]
    assert found.weight.is_meta


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance.treespec:FutureWarning")  # of torch's own copy
def test_program_of_free_sizes_is_copied_though_its_notes_cannot_be(tmp_path: Path) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()
    free = ({0: torch.export.Dim("batch", min=1, max=9)},)
    program = torch.export.export(layers, (torch.randn(2, 3, 4, 4),), dynamic_shapes=free)
    torch.export.save(program, tmp_path / "net.pt2")
    module = torch.export.unflatten(torch.export.load(tmp_path / "net.pt2"))

    twin = copied(module, placeholders(module))

    assert not torch.equal(twin.get_parameter("0.weight"), module.get_parameter("0.weight"))
    assert twin(torch.randn(5, 3, 4, 4)).shape == (5, 4, 4, 4)


def test_model_over_the_limit_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(1024, 1024, bias=False)
    monkeypatch.setattr(model_copy, "MAX_COPIED_BYTES", 2 << 20)

    assert nbytes_of(model) == 4 << 20
    assert too_large(model) == "its weights take 4 MiB: models up to 2 MiB are copied"


@pytest.mark.parametrize(
    ("got", "text"),
    [
        ([torch.ones(2)], ""),
        ([], "it gives 0 tensors, 1 in Python"),
        ([torch.ones(3)], "it gives (3,) float32, (2,) float32 in Python"),
        ([torch.zeros(2)], "it computes something else: outputs are"),
    ],
)
def test_difference_of_outputs_is_a_sentence(got: list[torch.Tensor], text: str) -> None:
    found = outputs_differ([torch.ones(2)], got)[0]

    assert found.startswith(text)
    assert bool(found) is bool(text)

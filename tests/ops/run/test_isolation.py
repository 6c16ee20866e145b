"""A model is restored after a block: flags, attributes, containers, buffers."""

from typing import Any

import pytest
import torch
from torch import nn

from modswap.ops.run.isolation import Snapshot, put_back, set_mode, untouched
from tests.models import GatedNet


class Hoarder(nn.Module):
    """A module with containers and a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.sizes: dict[str, int] = {"a": 1}
        self.names = ["x"]
        self.kinds = {"k"}

    def change(self) -> None:
        """Change every attribute, container and buffer."""
        self.get_buffer("count").add_(1)
        self.sizes["b"] = 2
        self.names[0] = "y"
        self.kinds.add("l")
        self.extra = 3
        self.register_buffer("more", torch.ones(1))


def test_contents_of_containers_and_buffers_come_back() -> None:
    module = Hoarder()
    held = module.sizes, module.names, module.kinds

    with untouched(module, training=False):
        module.change()

    assert (module.sizes, module.names, module.kinds) == ({"a": 1}, ["x"], {"k"})
    assert all(
        a is b for a, b in zip(held, (module.sizes, module.names, module.kinds), strict=True)
    )
    assert module.get_buffer("count").item() == 0
    assert not hasattr(module, "extra")
    assert [name for name, _ in module.named_buffers()] == ["count"]


@pytest.mark.parametrize("training", [True, False])
def test_every_flag_is_set_for_the_block_and_restored_on_its_own(training: bool) -> None:
    model = GatedNet().train()
    model.stem.eval()
    before = [module.training for module in model.modules()]

    with untouched(model, training=training):
        assert {module.training for module in model.modules()} == {training}

    assert [module.training for module in model.modules()] == before


def test_values_are_put_back_except_where_the_shape_changed() -> None:
    now: dict[str, Any] = {"a": torch.ones(2), "b": torch.ones(3)}

    put_back(now, {"a": torch.zeros(2), "b": torch.zeros(2), "gone": torch.zeros(1)})

    assert now["a"].tolist() == [0, 0]
    assert now["b"].tolist() == [1, 1, 1]


def test_mode_is_set_without_calling_train_of_a_host() -> None:
    model = GatedNet()
    model.train = None  # type: ignore[assignment, method-assign] # a host's own

    set_mode(model, training=False)

    assert not any(module.training for module in model.modules())


class Caching(nn.Module):
    """Keeps what it is given in containers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.seen: list[int] = [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        self.sizes[len(x)] = self.seen[-1] = len(x)
        self.last = len(x)
        return x


def test_one_snapshot_restores_the_model_after_block_after_block() -> None:
    model = nn.Sequential(caching := Caching())
    snapshot = Snapshot(model)

    for size in (2, 3):
        with untouched(model, training=True, unreal=True, snapshot=snapshot):
            model(torch.zeros(size))
            assert caching.sizes == {size: size}

        assert (caching.sizes, caching.seen, hasattr(caching, "last")) == ({}, [0], False)

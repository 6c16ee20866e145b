"""Random states: kept around a block, drawn from a seed in it, on every device."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn

from modswap.ops.run.isolation import untouched
from modswap.seeds import kept_random_state, seeded

CONTEXTS = [
    kept_random_state,
    lambda: seeded(3),
    lambda: untouched(nn.Identity(), training=False),
]


def drawn(cuda: torch.Generator) -> list[float]:
    """Return a number from each source."""
    return [random.random(), float(torch.rand(())), float(torch.rand((), generator=cuda))]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> torch.Generator:
    """Return a generator in place of that of a CUDA device."""
    generator = torch.Generator()
    generator.manual_seed(11)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    return generator


@pytest.mark.parametrize("context", CONTEXTS, ids=["kept", "seeded", "untouched"])
def test_random_states_of_all_devices_come_back(
    cuda: torch.Generator, context: Callable[[], AbstractContextManager[None]]
) -> None:
    states = random.getstate(), torch.get_rng_state(), cuda.get_state()

    with context():
        drawn(cuda)

    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert torch.equal(cuda.get_state(), states[2])


def test_a_seed_fixes_what_every_source_draws(cuda: torch.Generator) -> None:
    with seeded(5):
        first = drawn(cuda)
    between = drawn(cuda)
    with seeded(5):
        again = drawn(cuda)

    assert first == again
    assert all(a != b for a, b in zip(first, between, strict=True))


def test_seeding_does_not_initialise_cuda() -> None:
    initialised = torch.cuda.is_initialized()

    with seeded(1):
        torch.rand(())

    assert torch.cuda.is_initialized() is initialised

"""The random states of Python and torch: kept around a block, or drawn from a seed in it.

Every other file seeds through this one. `torch.manual_seed` seeds every device's generator, and
`torch.random.fork_rng(devices=[])` restores only that of the CPU.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def _generators() -> tuple[torch.Generator, ...]:
    """Return the generators of all devices; none exists for CUDA before CUDA is initialised."""
    devices = (torch.cuda.default_generators, torch.xpu.default_generators)
    return (torch.default_generator, *(one for device in devices for one in device))


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the random states of Python, the CPU and every initialised device back after a block."""
    python = random.getstate()
    states = [(generator, generator.get_state()) for generator in _generators()]
    try:
        yield
    finally:
        random.setstate(python)
        for generator, state in states:
            generator.set_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed in a block, on every device; put the random states back after it."""
    with kept_random_state():
        random.seed(seed)
        for generator in _generators():
            generator.manual_seed(seed)
        yield

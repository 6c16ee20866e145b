"""Launches of the second way's Triton programs: the one owner that runs them, and counts."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

# read once: a compiled graph cannot
HAS_TRITON = find_spec("triton") is not None
INTERPRETED = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"  # programs run anywhere
MAX_PLANS = 256  # shapes whose launches are kept
MULTIPROCESSORS = 132  # of an H100; grids with few programs are split until each has some
TAP_PROGRAMS = 16 * MULTIPROCESSORS
MAX_INT = 1 << 31  # numbers of pixels and channels that programs count in int32
_counted: list[list[str]] = []  # the names of launched programs, for each `counted` that runs


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """A program with all of its arguments but the tensors, made once for a shape.

    Args:
        kernel: The program, as Triton has compiled or interprets it.
        grid: Numbers of programs along each axis.
        numbers: Its arguments behind the tensors.
        constants: Its compile-time constants, warps and stages.
    """

    kernel: Any
    grid: tuple[int, ...]
    numbers: tuple[float, ...]
    constants: Mapping[str, Any]

    def __call__(self, *tensors: torch.Tensor) -> None:
        """Run the program on the current device."""
        for names in _counted:
            names.append(self.kernel.__name__)
        self.kernel[self.grid](*tensors, *self.numbers, **self.constants)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Give a list to which the name of every program is added that is launched meanwhile."""
    names: list[str] = []
    _counted.append(names)
    try:
        yield names
    finally:
        _counted.remove(names)


def power(length: int, least: int = 16) -> int:
    """Return the edge of the smallest tile that holds a length; `tl.dot` needs 16."""
    return max(least, 1 << (length - 1).bit_length())


def magic(divisor: int) -> int:
    """Return the number by which `tiles.divided` divides."""
    return MAX_INT // divisor + 1


def ceiling(length: int, block: int) -> int:
    """Return how many blocks cover a length."""
    return -(-length // block)


def dot_precision(dtype: torch.dtype) -> str:
    """Return how Triton takes products of float32: as torch may, or never less exact than float32.

    `tf32x3` adds three products of tensor cores, and has about float32's accuracy.
    """
    if dtype != torch.float32:
        return "tf32"  # not read
    asked = torch.backends.cuda.matmul.fp32_precision
    return "tf32" if asked == "tf32" else "tf32x3"

"""The choice between the ways to compute a layer on a GPU."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from modswap.nn.gpu.evidence import ROWS, MeasuredCall, constant_result, faster
from modswap.nn.gpu.launches import HAS_TRITON, INTERPRETED

VARIABLE = "MODSWAP_GPU_WAY"
WAYS = ("auto", "windows", "fused")
OLDEST = (8, 0)  # compute capability; older devices lack the matrix instructions
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_asked = os.environ.get(VARIABLE, "auto")  # read once: a compiled graph cannot read it


@contextmanager
def gpu_way(way: str) -> Iterator[None]:
    """Compute layers on GPUs in one way, in the whole process.

    Args:
        way: `windows`, the first way; `fused`, Triton programs on the whole map where they take the
            layer and its input; or `auto`, which is the default: fused where it was measured to be
            faster for these sizes on such a card.

    Raises:
        ValueError: If there is no such way.

    Examples:
        >>> with gpu_way("windows"):
        ...     pass
    """
    global _asked  # noqa: PLW0603 - a switch of the process, as the environment's variable is
    _check(way, "way")
    before, _asked = _asked, way
    try:
        yield
    finally:
        _asked = before


def wants_fused(x: torch.Tensor, measured: Callable[[], MeasuredCall]) -> bool:
    """Return whether the fused way is to compute a layer for this input.

    Raises:
        ValueError: If the environment names no such way.
    """
    if not (x.is_cuda or INTERPRETED) or _asked == "windows":
        return False
    _check(_asked, VARIABLE)
    if x.dtype not in DTYPES or (_asked == "auto" and not ROWS):
        return False
    capability = _capability(x.device.index or 0) if x.is_cuda else OLDEST
    if not HAS_TRITON or capability < OLDEST:
        return False
    return _asked == "fused" or faster(measured(), card_class(capability))


def card_class(capability: tuple[int, int]) -> str:
    """Return the class of a card, `sm_90`: cards of one class run the same programs."""
    return "sm_{}{}".format(*capability)


def _check(way: str, name: str) -> None:
    if way not in WAYS:
        raise ValueError(f"{name} must be one of {', '.join(WAYS)}, got {way!r}")


@constant_result
def _capability(device: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)

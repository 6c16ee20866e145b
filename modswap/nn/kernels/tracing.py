"""Detect torch's tracers and function transforms."""

import torch


def recorded() -> bool:
    """Return whether torch records a graph that other input sizes use as well.

    `torch.jit.trace`, `torch.export` and `torch.onnx.export` do; `torch.compile` records a new
    graph for other sizes.
    """
    return traced() or torch.compiler.is_exporting()


def traced() -> bool:
    """Return whether `torch.jit.trace` runs."""
    running: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # torch's stubs forget it
    return running


def own_tensors(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return parts of a tensor; in a recorded graph, as tensors of their own.

    A graph that flattens a part is bound to the order of its sizes.
    """
    return tuple(part.contiguous() for part in parts) if recorded() else parts


def for_each(mask: torch.Tensor, number: int) -> torch.Tensor:
    """Return a mask for each of a number of samples: (P, K) -> (N, P, K).

    A graph that flattens an expanded mask is bound to a batch of several samples.
    """
    return mask.repeat(number, 1, 1) if recorded() else mask.expand(number, *mask.shape)


def transformed(*tensors: torch.Tensor) -> bool:
    """Return whether `torch.func.grad`, `vmap` or the like transform any of these tensors.

    The transforms support torch's operators, not those of modswap.
    """
    if torch.compiler.is_compiling():
        return False
    return any(torch.func.debug_unwrap(tensor) is not tensor for tensor in tensors)

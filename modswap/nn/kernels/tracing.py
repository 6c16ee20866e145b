"""Telling when torch's tracers and function transforms are at work."""

import torch


def recorded() -> bool:
    """Return whether what runs is written down once, for inputs of other sizes as well.

    So it is by `torch.jit.trace`, `torch.export` and `torch.onnx.export`, not by `torch.compile`,
    which writes it down anew.
    """
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # torch's stubs forget it
    return traced or torch.compiler.is_exporting()


def own_tensors(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return parts of one tensor; while recorded, as tensors of their own.

    A graph that flattens a part is held to how its sizes compared.
    """
    return tuple(part.contiguous() for part in parts) if recorded() else parts


def for_each(mask: torch.Tensor, number: int) -> torch.Tensor:
    """Return a mask for each of a number of samples: (P, K) -> (N, P, K).

    A graph that flattens an expanded mask is held to a batch of several.
    """
    return mask.repeat(number, 1, 1) if recorded() else mask.expand(number, *mask.shape)


def transformed(*tensors: torch.Tensor) -> bool:
    """Return whether `torch.func.grad`, `vmap` and the like look at any of these tensors.

    They know torch's own operators, not ours.
    """
    if torch.compiler.is_compiling():
        return False
    return any(torch.func.debug_unwrap(tensor) is not tensor for tensor in tensors)

"""Telling when torch's function transforms are at work."""

import torch


def transformed(*tensors: torch.Tensor) -> bool:
    """Return whether `torch.func.grad`, `vmap` and the like look at any of these tensors.

    They know torch's own operators, not ours.
    """
    if torch.compiler.is_compiling():
        return False
    return any(torch.func.debug_unwrap(tensor) is not tensor for tensor in tensors)

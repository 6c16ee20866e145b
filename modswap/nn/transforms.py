"""Telling when torch's function transforms are at work."""

import torch

# private, so that it may be missing one day: then transforms refuse our own operators, as others'
_is_wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", None)  # noqa: SLF001


def transformed(*tensors: torch.Tensor) -> bool:
    """Return whether `torch.func.grad`, `vmap` and the like look at any of these tensors.

    They know torch's own operators, not ours.
    """
    if _is_wrapped is None or torch.compiler.is_compiling():
        return False
    return any(_is_wrapped(tensor) for tensor in tensors)

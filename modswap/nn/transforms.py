"""Telling when torch's tracers and function transforms are at work."""

import torch


def recorded() -> bool:
    """Return whether what runs is written down once, for inputs of other sizes as well.

    So it is by `torch.jit.trace`, `torch.export` and `torch.onnx.export`, not by `torch.compile`,
    which writes it down anew.
    """
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call] # torch's stubs forget it
    return traced or torch.compiler.is_exporting()


def transformed(*tensors: torch.Tensor) -> bool:
    """Return whether `torch.func.grad`, `vmap` and the like look at any of these tensors.

    They know torch's own operators, not ours.
    """
    if torch.compiler.is_compiling():
        return False
    return any(torch.func.debug_unwrap(tensor) is not tensor for tensor in tensors)

"""Initialise the weights of a new module by torch's initialisers."""

from collections.abc import Collection

import torch
from torch import nn

from modswap.core.asked.parts.starts import Init
from modswap.core.errors import ShapeError
from modswap.seeds import seeded


def initialise(
    module: nn.Module, init: Init, *, seed: int, path: str, keep: Collection[str] = ()
) -> tuple[str, ...]:
    """Draw a module's weights by the initialisers of a rule; return the notes on them.

    Weights of two axes or more are drawn, and the biases beside them; norms and the tensors in
    `keep` stay as they are.

    Raises:
        ShapeError: If a weight has a shape that its initialiser does not take, or none is drawn.
    """
    drawn = {"weight": 0, "bias": 0}
    with seeded(seed), torch.no_grad():
        for prefix, layer in module.named_modules():
            weights = [n for n, p in layer.named_parameters(recurse=False) if p.ndim > 1]
            for name, parameter in layer.named_parameters(recurse=False):
                full = f"{prefix}.{name}" if prefix else name
                kind = "weight" if name in weights else "bias"
                chosen = init.weight if kind == "weight" else init.bias
                beside = kind == "weight" or (weights and name.endswith("bias"))
                if chosen is None or full in keep or not beside:
                    continue
                _draw(parameter, chosen, init, full, path)
                drawn[kind] += 1
    chosen_kinds = {"weight": init.weight, "bias": init.bias}
    said = [f"{n} {k}s by {chosen_kinds[k]}" for k, n in drawn.items() if chosen_kinds[k]]
    if not any(drawn.values()):
        what = f"`init` draws nothing: {type(module).__name__} has no such weights"
        raise ShapeError(what, path, "take `init` out")
    return (f"initialised: {', '.join(said)}",)


def _draw(parameter: torch.Tensor, chosen: str, init: Init, name: str, path: str) -> None:
    draw = getattr(nn.init, f"{chosen}_")
    try:
        draw(parameter, **init.arguments(chosen))
    except (ValueError, RuntimeError) as error:
        what = f"{chosen} does not fit {name} {tuple(parameter.shape)}: {error}"
        raise ShapeError(what, path, "choose another initialiser") from None

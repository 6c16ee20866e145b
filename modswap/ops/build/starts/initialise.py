"""Initialise the weights of a new module by torch's initialisers."""

from collections.abc import Collection, Iterator

import torch
from torch import nn

from modswap.core.asked.rules.starts import Init
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
    kinds = {"weight": init.weight, "bias": init.bias}
    counts = dict.fromkeys(kinds, 0)
    with seeded(seed), torch.no_grad():
        for name, kind, parameter in _candidates(module):
            chosen = kinds[kind]
            if chosen is not None and name not in keep:
                _draw(parameter, chosen, init, name, path)
                counts[kind] += 1
    if not any(counts.values()):
        what = f"`init` draws nothing: {type(module).__name__} has no such weights"
        raise ShapeError(what, path, "take `init` out")
    said = (f"{count} of {kind} by {kinds[kind]}" for kind, count in counts.items() if kinds[kind])
    return (f"initialised: {', '.join(said)}",)


def _candidates(module: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Yield the weights of two axes or more, and the biases beside them, each with its kind."""
    for prefix, layer in module.named_modules():
        own = list(layer.named_parameters(prefix=prefix, recurse=False))
        weights = [(name, "weight", value) for name, value in own if value.ndim > 1]
        biases = [(name, "bias", value) for name, value in own if name.endswith("bias")]
        yield from weights
        yield from (one for one in biases if weights and one[2].ndim == 1)


def _draw(parameter: torch.Tensor, chosen: str, init: Init, name: str, path: str) -> None:
    draw = getattr(nn.init, f"{chosen}_")
    try:
        draw(parameter, **init.arguments(chosen))
    except (ValueError, RuntimeError) as error:
        what = f"{chosen} does not fit {name} {tuple(parameter.shape)}: {error}"
        raise ShapeError(what, path, "choose another initialiser") from None

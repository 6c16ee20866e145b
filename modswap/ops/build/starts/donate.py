"""Give a new module the weights of a donor: by name, else by shape and order."""

from collections.abc import Mapping

import torch
from torch import nn

from modswap.core.asked.parts.starts import Donor
from modswap.core.errors import ShapeError
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inherit.attention_rows import Given
from modswap.nn.inherit.respelling import tensors_of

SHOWN = 6  # weights that fit nowhere


def donate(
    module: nn.Module, weights: Mapping[str, torch.Tensor], donor: Donor, path: str
) -> Given:
    """Return the values of a new module that a donor's weights give.

    Raises:
        ShapeError: If weights of the one have no place in the other and the rule does not say
            `partial: true`, or if none fits.
    """
    start = "module." if isinstance(module, SiteAdapter) else ""
    own = {n: t for n, t in tensors_of(module).items() if n.startswith(start)}
    own = {n.removeprefix(start): t for n, t in own.items()}
    source = f"{donor.file}:{donor.path}" if donor.path else donor.file
    pairs = {n: n for n, t in own.items() if n in weights and weights[n].shape == t.shape}
    other = {n for n in own if n in weights and n not in pairs}
    rest = [n for n in weights if n not in pairs and n not in other]
    by_shape = {}
    for name, tensor in own.items():
        if name in pairs or name in other:
            continue
        fits = [n for n in rest if weights[n].shape == tensor.shape and _last(n) == _last(name)]
        if fits:
            by_shape[name] = fits[0]
            rest.remove(fits[0])
    pairs |= by_shape
    unfit = [f"{n} is {_shape(own[n])}, in the donor {_shape(weights[n])}" for n in sorted(other)]
    unfit += [
        f"{n} {_shape(t)} is not in the donor"
        for n, t in own.items()
        if n not in pairs and n not in other
    ]
    unfit += [f"{n} {_shape(weights[n])} is in the donor alone" for n in rest]
    if not pairs or (unfit and not donor.partial):
        shown = "; ".join(unfit[:SHOWN]) + (
            f"; and {len(unfit) - SHOWN} more" if len(unfit) > SHOWN else ""
        )
        fix = (
            "name another module, or set `partial: true` in `donor`"
            if pairs
            else "name another module"
        )
        raise ShapeError(f"the donor {source} does not fit: {shown}", path, fix)
    given = Given()
    for name, taken in pairs.items():
        given.put(f"{start}{name}", weights[taken], f"{source}: {taken}")
    table = ", ".join(f"{taken} → {name}" for name, taken in by_shape.items())
    given.notes += [f"matched by shape and order: {table}"] if table else []
    given.notes += [f"left out: {'; '.join(unfit)}"] if unfit else []
    given.notes.append(f"{len(pairs)} of {len(own)} tensors from {source}")
    return given


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shape(tensor: torch.Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"

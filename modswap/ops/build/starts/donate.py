"""Give a new module the weights of a donor: by name, else by shape and order."""

from collections.abc import Mapping

import torch
from torch import nn

from modswap.core.asked.rules.starts import Donor
from modswap.core.errors import ShapeError
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inherit.attention_rows import Given
from modswap.nn.inherit.respelling import tensors_of

_Named = Mapping[str, torch.Tensor]
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
    own = {n.removeprefix(start): t for n, t in tensors_of(module).items() if n.startswith(start)}
    source = f"{donor.file}:{donor.path}" if donor.path else donor.file
    pairs = {n: n for n, t in own.items() if n in weights and weights[n].shape == t.shape}
    by_shape = _by_shape(own, weights, pairs)
    pairs |= by_shape
    unfit = _unfit(own, weights, pairs)
    if not pairs or (unfit and not donor.partial):
        fix = "name another module" + (", or set `partial: true` in `donor`" if pairs else "")
        raise ShapeError(f"the donor {source} does not fit: {_shown(unfit)}", path, fix)
    given = Given()
    for name, taken in pairs.items():
        given.put(f"{start}{name}", weights[taken], f"{source}: {taken}")
    table = ", ".join(f"{taken} → {name}" for name, taken in by_shape.items())
    given.notes += [f"matched by shape and order: {table}"] if table else []
    given.notes += [f"left out: {'; '.join(unfit)}"] if unfit else []
    given.notes.append(f"{len(pairs)} of {len(own)} tensors from {source}")
    return given


def _by_shape(own: _Named, weights: _Named, pairs: Mapping[str, str]) -> dict[str, str]:
    """Return a donor's weights for others by shape and order; names on both sides never part."""
    rest = [name for name in weights if name not in own]
    found = {}
    for name in (name for name in own if name not in pairs and name not in weights):
        wanted = own[name].shape, _last(name)
        fits = [one for one in rest if (weights[one].shape, _last(one)) == wanted]
        if fits:
            found[name] = fits[0]
            rest.remove(fits[0])
    return found


def _unfit(own: _Named, weights: _Named, pairs: Mapping[str, str]) -> list[str]:
    """Return in words the weights of both sides that fit nowhere."""
    rest = [name for name in own if name not in pairs]
    taken = {*pairs.values()}
    found = [
        f"{n} is {_shape(own[n])}, in the donor {_shape(weights[n])}"
        if n in weights
        else f"{n} {_shape(own[n])} is not in the donor"
        for n in rest
    ]
    left = [name for name in weights if name not in taken and name not in rest]
    return found + [f"{name} {_shape(weights[name])} is in the donor alone" for name in left]


def _shown(unfit: list[str]) -> str:
    more = f"; and {len(unfit) - SHOWN} more" if len(unfit) > SHOWN else ""
    return "; ".join(unfit[:SHOWN]) + more


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shape(tensor: torch.Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"

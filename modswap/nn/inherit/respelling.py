"""Assign the weights of one module to another spelling of it, by shapes and by order."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

MAX_ORDERS = 48  # of weights that have one shape
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The tensor of the old module for each tensor of the new one, by names.

    `turned` are tensors whose input channels are in the opposite order.
    """

    sources: Mapping[str, str]
    turned: frozenset[str] = frozenset()

    def left(self, old: Mapping[str, torch.Tensor]) -> list[str]:
        """Return the tensors of the old module that the new one has no place for."""
        used = {*self.sources.values()}
        return [n for n in old if n not in used and not n.endswith("num_batches_tracked")]

    def values(
        self, old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return the new module's values, of the shapes that they have there."""
        found = {}
        for name, source in self.sources.items():
            value = old[source].reshape(new[name].shape)
            found[name] = value.flip(1) if name in self.turned else value
        return found


def same_layers(old: nn.Module, new: nn.Module) -> bool:
    """Return whether two modules are of one class, with tensors of the same names and shapes."""
    shapes = ({n: t.shape for n, t in tensors_of(one).items()} for one in (old, new))
    first, second = shapes
    return type(old) is type(new) and first == second and bool(first)


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a module's state by name."""
    return {n: t for n, t in module.state_dict().items() if isinstance(t, torch.Tensor)}


def assignments(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]
) -> Iterator[Assignment]:
    """Yield assignments of old tensors to new ones, likely ones first.

    Tensors go together that have the same sizes, axes of size 1 aside, and the same part in their
    layer. Where several are alike, each order of them is tried, as far as there are few.
    """
    groups, wanted = _grouped(old), _grouped(new)
    choices = [_orders(wanted[kind], groups[kind]) for kind in wanted if kind in groups]
    for chosen in itertools.islice(itertools.product(*choices), MAX_ORDERS):
        sources = {new: old for pairs in chosen for new, old in pairs}
        yield Assignment(sources)
        pairs = [name for name in sources if new[name].ndim == 4 and new[name].shape[1] == 2]
        if pairs:  # means and maxima, in either order
            yield Assignment(sources, frozenset(pairs))


def _grouped(tensors: Mapping[str, torch.Tensor]) -> dict[tuple[str, Shape], list[str]]:
    """Return the names of tensors by their kinds."""
    groups: dict[tuple[str, Shape], list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(_kind(name, tensor), []).append(name)
    return groups


def _kind(name: str, tensor: torch.Tensor) -> tuple[str, Shape]:
    """Return a tensor's part in its layer, and its sizes above 1."""
    last = name.rpartition(".")[2]
    return last, tuple(size for size in tensor.shape if size != 1)


def _orders(new: Sequence[str], old: Sequence[str]) -> list[tuple[tuple[str, str], ...]]:
    """Return the ways to give old tensors to new ones, as many as there are on both sides.

    In the first ways tensors of one name go together.
    """
    own = [(name, name) for name in new if name in old]
    rest = _pairings([n for n in new if n not in old], [n for n in old if n not in new])
    named = [(*own, *pairs) for pairs in rest]
    return list(dict.fromkeys([*named, *(_pairings(new, old) if rest != [()] else ())]))


def _pairings(new: Sequence[str], old: Sequence[str]) -> list[tuple[tuple[str, str], ...]]:
    if len(new) <= len(old):
        orders = itertools.islice(itertools.permutations(old, len(new)), MAX_ORDERS)
        return [tuple(zip(new, order, strict=True)) for order in orders]
    orders = itertools.islice(itertools.permutations(new, len(old)), MAX_ORDERS)
    return [tuple(zip(order, old, strict=True)) for order in orders]


def neutral(layer: nn.Module, name: str, value: torch.Tensor) -> torch.Tensor | None:
    """Return the value with which a tensor of a layer changes nothing; None if there is none."""
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - torch has no other name for all of them
        if name == "weight":
            return torch.full_like(value, (1 + layer.eps) ** 0.5)
        if name == "running_var":
            return torch.ones_like(value)
        return torch.zeros_like(value)
    return torch.zeros_like(value) if name == "bias" else None


def neutral_tensors(module: nn.Module, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the neutral values of some tensors of a module, as far as they have any."""
    state = tensors_of(module)
    found = {}
    for full in names:
        parent, _, name = full.rpartition(".")
        value = neutral(module.get_submodule(parent), name, state[full])
        if value is not None:
            found[full] = value
    return found


def hidden_channels(module: nn.Module, channels: int) -> int:
    """Return the outputs of a module's first linear map of `channels`; 0 if there is none."""
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and weight is not None:
            plain = weight.ndim == 2 or set(weight.shape[2:]) == {1}
            if plain and weight.shape[1] == channels:
                return int(weight.shape[0])
    return 0

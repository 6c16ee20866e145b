"""Sites to heal: the new modules of a model beside the old ones of the original."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import MatchError, UsageError
from modswap.core.kept.receipt import SiteRecord
from modswap.core.seen.site import Layout
from modswap.live_values import module_paths
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inserted_site import inserted_names
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at


@dataclass(frozen=True, slots=True)
class Bypass:
    """A linear layer beside a new module, to whose output its own is added.

    Args:
        name: Its name among the new module's children.
        blueprint: What it was made of.
        inserted: The layer, joined to the module.
        hook: The hook of the module in which it runs.
    """

    name: str
    blueprint: Blueprint
    inserted: Insertion
    hook: RemovableHandle

    @property
    def layer(self) -> nn.Linear | nn.Conv2d:
        """Return the layer."""
        return cast("nn.Linear | nn.Conv2d", self.inserted.module)

    @property
    def used(self) -> bool:
        """Return whether it gives anything."""
        return any(bool(one.any()) for one in self.layer.parameters())

    @torch.no_grad()
    def clear(self) -> None:
        """Let it give nothing."""
        for one in self.layer.parameters():
            one.zero_()


@dataclass(frozen=True, slots=True)
class HealedSite:
    """A place where a new module is to compute what the old one computed.

    Args:
        path: Dotted name of the modules whose outputs are compared, in both models.
        paths: Every path of the new module in the model.
        old: The module of the original.
        new: That of the model, which may hold modules beside it that are not new.
        learned: The new module, whose weights may change.
        record: Its record in the file's receipt, where there is one.
        bypass: A linear map beside the new module, where the user allows one.
    """

    path: str
    paths: tuple[str, ...]
    old: nn.Module
    new: nn.Module
    learned: nn.Module
    record: SiteRecord | None = None
    bypass: Bypass | None = None

    @property
    def inner(self) -> nn.Module:
        """Return the new module without the adapter around it."""
        module = self.learned
        return module.module if isinstance(module, SiteAdapter) else module

    @property
    def layout(self) -> Layout | None:
        """Return the layout of what it is given and gives, where that is known."""
        layout = self.record.layout if self.record is not None else None
        if layout is None and isinstance(self.learned, SiteAdapter):
            layout = self.learned.layout
        return layout or getattr(self.inner, "layout", None)

    @property
    def replaces(self) -> bool:
        """Return whether the new module is in the place of the old one, not beside it."""
        return self.learned is self.new


def sites_to_heal(
    original: nn.Module, model: nn.Module, records: Sequence[SiteRecord] = ()
) -> tuple[HealedSite, ...]:
    """Return the sites of a model, as a receipt records them or else by their classes.

    Raises:
        UsageError: If no module differs from the original.
        MatchError: If the original has no module where the model has a new one.
    """
    found = tuple(_recorded(original, model, records)) or tuple(_different(original, model))
    if not found:
        what = "its modules are of the classes of the original's: there is nothing to heal"
        raise UsageError(what, "--against", "name the file before the swap")
    return found


def _recorded(
    original: nn.Module, model: nn.Module, records: Sequence[SiteRecord]
) -> Iterator[HealedSite]:
    for record in _places(model, records):
        path = record.paths[0]
        learned = module_at(model, path)
        around = path.rpartition(".")[0]
        at = around if isinstance(learned, Insertion) else path
        layer = learned.module if isinstance(learned, Insertion) else learned
        prefix = "module" if layer is not learned else ""
        paths = tuple(f"{one}.{prefix}".rstrip(".") for one in record.paths)
        old, new = _at(original, at), module_at(model, at)
        yield HealedSite(at, paths, old, new, layer, record)


def _places(model: nn.Module, records: Sequence[SiteRecord]) -> list[SiteRecord]:
    """Return records without those of modules beside a new one, which are a part of that."""
    swapped = {path for record in records for path in record.paths}
    beside = (one for one in records if one.paths[0].rpartition(".")[0] in swapped)
    parts = [one for one in beside if isinstance(module_at(model, one.paths[0]), Insertion)]
    return [one for one in records if one not in parts]


def _at(original: nn.Module, path: str) -> nn.Module:
    try:
        return module_at(original, path)
    except MatchError as error:
        what = f"the original has no module {path!r}, of which the file has a new one"
        raise MatchError(what, error.where, "name the file before the swap") from None


def _different(original: nn.Module, model: nn.Module) -> Iterator[HealedSite]:
    """Yield the topmost modules whose class is another than that of the original's."""
    olds = {place.path: place.module for place in module_paths(original)}
    yield from _beside(olds, model)
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    inside = ""  # the beginning of paths inside a module that is another
    for place in module_paths(model):
        path, new = place.path, place.module
        if not path or path not in olds or (inside and path.startswith(inside)):
            continue
        if not _holds_old(new, olds[path]):
            found.setdefault(id(new), (new, []))[1].append(path)
            inside = f"{path}."
    for new, paths in found.values():
        yield HealedSite(paths[0], tuple(paths), olds[paths[0]], new, new)


def _holds_old(new: nn.Module, old: nn.Module) -> bool:
    """Return whether a module is of the old one's class, also with others beside it."""
    classes = type(new).__mro__ if inserted_names(new) else (type(new),)
    own = (type(old).__module__, type(old).__qualname__)
    return own in {(one.__module__, one.__qualname__) for one in classes}


def _beside(olds: Mapping[str, nn.Module], model: nn.Module) -> Iterator[HealedSite]:
    """Yield the modules that were put in beside others and that the original does not have."""
    found: dict[int, tuple[nn.Module, str, Insertion, list[str]]] = {}
    for place in module_paths(model):
        for name in inserted_names(place.module):
            path = f"{place.path}.{name}" if place.path else name
            new = module_at(place.module, name)
            if not isinstance(new, Insertion) or place.path not in olds or path in olds:
                continue
            if _holds_old(place.module, olds[place.path]):  # else it belongs to a new module
                paths: list[str] = []
                one = (place.module, place.path, new, paths)
                found.setdefault(id(new), one)[3].append(f"{path}.module")
    for around, at, inserted, names in found.values():
        yield HealedSite(at, tuple(names), olds[at], around, inserted.module)


def in_order(sites: Sequence[HealedSite], calls: Mapping[str, int]) -> tuple[HealedSite, ...]:
    """Return sites in the order of their first calls; those that were not called are left out."""
    return tuple(sorted((s for s in sites if s.path in calls), key=lambda s: calls[s.path]))

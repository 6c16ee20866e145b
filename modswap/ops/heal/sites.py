"""Sites to heal: the new modules of a model beside the old ones of the original."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from modswap.core.errors import MatchError, UsageError
from modswap.core.kept.receipt import SiteRecord
from modswap.live_values import module_paths
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inserted_site import inserted_names
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at
from modswap.ops.run.describe import class_name


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
    """

    path: str
    paths: tuple[str, ...]
    old: nn.Module
    new: nn.Module
    learned: nn.Module
    record: SiteRecord | None = None

    @property
    def inner(self) -> nn.Module:
        """Return the new module without the adapter around it."""
        module = self.learned
        return module.module if isinstance(module, SiteAdapter) else module

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
    for record in records:
        path = record.paths[0]
        learned = module_at(model, path)
        around = path.rpartition(".")[0]
        at = around if isinstance(learned, Insertion) else path
        layer = learned.module if isinstance(learned, Insertion) else learned
        prefix = "module" if layer is not learned else ""
        paths = tuple(f"{one}.{prefix}".rstrip(".") for one in record.paths)
        old, new = _at(original, at), module_at(model, at)
        yield HealedSite(at, paths, old, new, layer, record)


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
        if class_name(olds[path]) != class_name(new) and not inserted_names(new):
            found.setdefault(id(new), (new, []))[1].append(path)
            inside = f"{path}."
    for new, paths in found.values():
        yield HealedSite(paths[0], tuple(paths), olds[paths[0]], new, new)


def _beside(olds: Mapping[str, nn.Module], model: nn.Module) -> Iterator[HealedSite]:
    """Yield the modules that were put in beside others and that the original does not have."""
    found: dict[int, tuple[nn.Module, str, Insertion, list[str]]] = {}
    for place in module_paths(model):
        for name in inserted_names(place.module):
            path = f"{place.path}.{name}" if place.path else name
            new = place.module.get_submodule(name)
            if place.path in olds and path not in olds and isinstance(new, Insertion):
                paths: list[str] = []
                one = (place.module, place.path, new, paths)
                found.setdefault(id(new), one)[3].append(f"{path}.module")
    for around, at, inserted, names in found.values():
        yield HealedSite(at, tuple(names), olds[at], around, inserted.module)


def in_order(sites: Sequence[HealedSite], calls: Mapping[str, int]) -> tuple[HealedSite, ...]:
    """Return sites in the order of their first calls; those that were not called are left out."""
    return tuple(sorted((s for s in sites if s.path in calls), key=lambda s: calls[s.path]))

"""The modules with gates of a model from a file."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from torch import nn

from modswap.core.errors import CheckpointError
from modswap.core.kept.receipt import SiteRecord
from modswap.core.seen.joint import Joint
from modswap.live_values import module_paths
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inserted_site import inserted_names
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at
from modswap.ops.load.model import Loaded


def gates_of(loaded: Loaded, where: str) -> Iterator[tuple[SiteRecord, Joint, Insertion]]:
    """Yield every module with a gate: those of the file's receipt, then others in the model.

    Raises:
        CheckpointError: If the receipt says that there is one, and there is none or another one.
    """
    known: set[str] = set()
    for record in loaded.receipt.sites if loaded.receipt is not None else ():
        if record.joint is None or not record.joint.has_gate:
            continue
        module = module_at(loaded.model, record.paths[0])
        if not isinstance(module, Insertion) or not _is_as_said(module, record.joint):
            what = f"its receipt and its module {record.paths[0]!r} disagree"
            raise CheckpointError(what, where, "write the file again with `modswap replace`")
        known.update(record.paths)
        yield record, record.joint, module
    yield from (one for one in _unrecorded(loaded.model) if known.isdisjoint(one[0].paths))


def _unrecorded(model: nn.Module) -> Iterator[tuple[SiteRecord, Joint, Insertion]]:
    """Yield the modules with a gate of a model that a training script saved, without a receipt."""
    found: dict[int, tuple[Insertion, list[str]]] = {}
    for place in module_paths(model):
        for name in inserted_names(place.module):
            module = place.module.get_submodule(name)
            if isinstance(module, Insertion) and module.gate is not None:
                path = f"{place.path}.{name}" if place.path else name
                found.setdefault(id(module), (module, []))[1].append(path)
    for module, paths in found.values():
        joint = _joint(module)
        layer = module.module
        cls = type(layer.module if isinstance(layer, SiteAdapter) else layer)
        name = f"{cls.__module__}:{cls.__qualname__}"
        yield SiteRecord(paths=tuple(paths), module=name, args={}, joint=joint), joint, module


def _is_as_said(module: Insertion, joint: Joint) -> bool:
    """Return whether a module has a gate and the joint of a receipt, whose channels it knows."""
    own = _joint(module) if module.gate is not None else None
    return own is not None and replace(joint, channels=own.channels) == own


def _joint(module: Insertion) -> Joint:
    """Return the joint of a module with a gate, as its attributes have it."""
    channels = cast("nn.Parameter", module.gate).numel()
    ends = (module.source, module.target)
    return Joint(module.place, module.form, channels, module.axes, *ends)


def gate_range(module: Insertion) -> tuple[float, float]:
    """Return the least and the largest gate.

    Raises:
        CheckpointError: If a file gives it no numbers.
    """
    gate = cast("nn.Parameter", module.gate).detach()
    if gate.numel() == 0:
        what = "the gate of a new module in it is empty"
        raise CheckpointError(what, fix="write the file again with `modswap replace`")
    return float(gate.min()), float(gate.max())

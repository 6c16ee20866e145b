"""A checkpoint as it was read: its payload, and the slots in which its models are."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from modswap.core.budget import MAX_MODULES, SHORTER_NAMES, PathBudget, names_flaw
from modswap.core.errors import CheckpointError
from modswap.io.pickled.names import key_text
from modswap.io.pickled.walk import MAX_DEPTH, NamedValue, named_entries
from modswap.io.raw.held import Held
from modswap.io.recognise.model_places import COUNTER, KEYS, common_prefix
from modswap.live_values import module_paths

MAX_SHOWN_KEYS = 12  # of a file without a model
FEWER_MODULES = "make it of fewer modules inside modules, with shorter names"


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a model or its weights in a checkpoint.

    `keys` lead from the payload down to it. `value` is the module, unwrapped, or the weights
    without `prefix`, which wrappers such as DataParallel put before every name and which is kept on
    writing.
    """

    keys: tuple[str, ...]
    kind: Literal["module", "weights"]
    value: Any
    prefix: str = ""

    @property
    def beginning(self) -> str:
        """Return the beginning of the names of the slot's tensors in the payload."""
        return "".join(f"{key}." for key in self.keys) + self.prefix


@dataclass(frozen=True, slots=True)
class Container:
    """Everything that a checkpoint holds.

    The slot of the primary model is the first; further ones are its copies, such as averages.
    `file` is `NO_FILE` for a model that came from no file, `metadata` that of a safetensors file
    without modswap's own, `recipe` and `receipt` those of an earlier swap. A file that is `held` is
    written to another place only if it has not changed. `unbuilt` names plain data in the file that
    the payload lacks: it is written again as data only.
    """

    format: str
    file: Path
    payload: Any
    slots: tuple[Slot, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    receipt: str | None = None
    notes: tuple[str, ...] = ()
    held: Held | None = None
    unbuilt: tuple[str, ...] = ()


def find_slots(payload: Any, file: Path) -> tuple[Slot, ...]:
    """Return the slots of a payload that hold the model, the primary one first.

    Raises:
        CheckpointError: If it is in none of the known places, names of tensors or modules are too
            long, or modules are nested too deep.
    """
    primary, *others = _slots(payload, file)
    for slot in (primary, *others):
        if slot.kind == "module" and (flaw := modules_flaw(slot.value)):
            raise CheckpointError(flaw, str(file), FEWER_MODULES)
        if slot.kind == "weights" and (flaw := names_flaw(slot.value)):
            raise CheckpointError(flaw, str(file), SHORTER_NAMES)
    return (primary, *(slot for slot in others if _same_model(primary, slot)))


def modules_flaw(model: nn.Module, most: int = MAX_MODULES) -> str:
    """Return the flaw of a model on whose modules torch's own walks would fail or hardly end.

    It may have `most` modules, each under each of its paths.
    """
    budget = PathBudget(most)
    flaws = (budget.flaw(path, depth, module) for path, module, _, depth in module_paths(model))
    return next(filter(None, flaws), "")


def _slots(payload: Any, file: Path) -> list[Slot]:
    own = _slot((), payload)
    if own is not None:
        return [own]
    if not isinstance(payload, Mapping):
        what = f"it holds {type(payload).__name__}, expected a model or its weights"
        raise CheckpointError(what, str(file), "save the model or its state dict")
    found = list(_inside(payload, ()))
    if not found:
        raise _nowhere(payload, file)
    return found


def _nowhere(payload: Mapping[Any, Any], file: Path) -> CheckpointError:
    """Return the error for a payload with no model where one is looked for.

    It names other keys that hold one, as in `{"g": ..., "d": ...}` of two networks.
    """
    shown = {key: repr(key_text(key))[:80] for key in list(payload)[:MAX_SHOWN_KEYS]}
    held = [name for key, name in shown.items() if _slot((), payload[key]) is not None]
    keys = ", ".join(shown.values()) or "nothing"
    what = f"no model under its keys ({keys}); looked for {', '.join(KEYS)}"
    fix = "save the model under one of these keys"
    if held:
        names = " and ".join(held)
        what = f"it holds {'models' if len(held) > 1 else 'a model'} under {names}, and none "
        what += f"under a key of a model's: {', '.join(KEYS)}"
        fix = "save the one that is meant alone, "
        fix += f"`torch.save(torch.load({file.name!r})[{held[0]}], 'alone{file.suffix}')`"
    return CheckpointError(what, str(file), fix)


def passed_over(payload: Any, slots: Sequence[Slot]) -> tuple[str, ...]:
    """Return a note for each other model in a payload, which is left as it is."""
    if not slots[0].keys:
        return ()
    known = {slot.keys for slot in slots}
    primary = ".".join(slots[0].keys)
    return tuple(
        f"{'.'.join(slot.keys)!r} holds another model than {primary!r} and is left as it is"
        for slot in _inside(payload, ())
        if slot.keys not in known
    )


def _inside(payload: Mapping[Any, Any], keys: tuple[str, ...]) -> Iterator[Slot]:
    for key in KEYS:
        value = payload.get(key)
        slot = _slot((*keys, key), value)
        if slot is not None:
            yield slot
        elif isinstance(value, Mapping) and not keys:
            yield from _inside(value, (*keys, key))


def _slot(keys: tuple[str, ...], value: Any) -> Slot | None:
    if isinstance(value, nn.Module):
        module, prefix = unwrapped(value)
        return Slot(keys, "module", module, prefix)
    if is_weights(value):
        prefix = common_prefix(list(value))
        return Slot(keys, "weights", {n.removeprefix(prefix): t for n, t in value.items()}, prefix)
    return None


def is_weights(value: Any) -> bool:
    """Return whether a value is a flat state dict: tensors by name, a few of other kinds."""
    if not isinstance(value, Mapping) or not value:
        return False
    tensors = sum(isinstance(tensor, torch.Tensor) for tensor in value.values())
    extra = [name for name, item in value.items() if not isinstance(item, torch.Tensor)]
    named = all(isinstance(name, str) for name in value)
    # `get_extra_state` may return any object
    return named and tensors > 0 and all(str(name).endswith("_extra_state") for name in extra)


def unwrapped(module: nn.Module) -> tuple[nn.Module, str]:
    """Return the module inside wrappers such as DataParallel, and the prefix of its names."""
    prefix = ""
    wrappers = {"DataParallel", "DistributedDataParallel", "OptimizedModule"}
    while type(module).__name__ in wrappers and type(module).__module__.startswith("torch."):
        name = "_orig_mod" if type(module).__name__ == "OptimizedModule" else "module"
        prefix += f"{name}."
        module = module.get_submodule(name)
    return module, prefix


def _same_model(primary: Slot, other: Slot) -> bool:
    if primary.kind != other.kind:
        return False
    if primary.kind == "weights":
        return set(primary.value) - {COUNTER} == set(other.value) - {COUNTER}
    return type(primary.value) is type(other.value) and _names(primary.value) == _names(other.value)


def _names(module: nn.Module) -> list[str]:
    return [place.path for place in module_paths(module)]


def refilled(container: Container, values: Sequence[Any]) -> Any:
    """Return the payload with new values in its slots; the old one is not changed.

    Each slot has one value: the module that is there already, or weights without their prefix.
    """
    payload = container.payload
    for slot, value in zip(container.slots, values, strict=True):
        if slot.kind == "weights":
            payload = _with(payload, slot.keys, lambda old, s=slot, v=value: _prefixed(old, v, s))
    return payload


def _with(payload: Any, keys: tuple[str, ...], change: Any) -> Any:
    if not keys:
        return change(payload)
    copy = payload.copy()
    copy[keys[0]] = _with(payload[keys[0]], keys[1:], change)
    return copy


def _prefixed(old: Any, weights: Mapping[str, Any], slot: Slot) -> Any:
    new: dict[str, Any] = OrderedDict() if isinstance(old, OrderedDict) else {}
    if COUNTER in old:
        new[COUNTER] = old[COUNTER]
    new.update({f"{slot.prefix}{name}": value for name, value in weights.items()})
    metadata = getattr(old, "_metadata", None)
    if metadata is not None and isinstance(new, OrderedDict):
        known = isinstance(metadata, Mapping)
        vars(new)["_metadata"] = _versions(metadata, new) if known else metadata
    return new


def _versions(metadata: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    """Return torch's version numbers for the modules that are still there."""
    folders = {""}
    for name in new:
        segments = name.split(".")
        folders.update(".".join(segments[:end]) for end in range(1, len(segments)))
    return OrderedDict((path, value) for path, value in metadata.items() if path in folders)


def named_tensors(payload: Any) -> Iterator[tuple[str, Any]]:
    """Yield every tensor inside a payload under a dotted name, shared ones under each name."""

    def enter(value: NamedValue) -> bool:
        closed = isinstance(value.value, (torch.Tensor, nn.Module))
        return value.depth < MAX_DEPTH and not closed

    for name, value, *_ in named_entries(payload, enter):
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, nn.Module):
            held: dict[str, Any] = dict(value.named_parameters(remove_duplicate=False))
            held.update(value.named_buffers(remove_duplicate=False))
            prefix = f"{name}." if name else ""
            yield from ((f"{prefix}{inner}", tensor) for inner, tensor in held.items())

"""Advice about an input that a new module does not take beside its map."""

import re
from collections.abc import Iterable

from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import Group, Plain, TensorInfo, Value, tensors

OWN = "name a class of yours whose forward takes it too, `with: package.module:Class`"
INSIDE = "select a module inside this one that is given the map alone"
MASKED = "select modules that are given no mask"
CACHE = "add `{use_cache: false}` to the kwargs of the dummy input, under `inputs` of the recipe"


def shown_input(site: Site, name: str) -> str:
    """Return an input in words: `input 1 ('mask')`, or `'mask'` where it comes by keyword."""
    if not name.isdigit():
        return repr(name)
    known = _parameter(site, name)
    return f"input {name} ({known!r})" if known else f"input {name}"


def _parameter(site: Site, name: str) -> str:
    """Return the name that the old module's forward gives to an input; empty if unknown."""
    if not name.isdigit():
        return name
    return site.names[int(name)] if int(name) < len(site.names) else ""


def further_fix(site: Site, call: Call, name: str, value: Value) -> str:
    """Return how to treat an input that the new module does not take."""
    cached = cache_fix(value)
    if cached:
        return cached
    known = _parameter(site, name)
    words = re.findall(r"[a-z]+", known.lower())
    reason = next((why for starts, why in _BY_NAME if _any_starts(words, starts)), "")
    if any(word.endswith("mask") for word in words) or _hides(call, value):
        reason = _HIDES
    elif isinstance(value, Plain) and value.kind in {"int", "float"}:
        reason = "is a number that the host sets, and training may need it"
    elif not reason and isinstance(value, Group) and any(True for _ in tensors(value)):
        reason = "holds further tensors"
    about = f"{known or f'input {name}'} {reason}: " if reason else ""
    return f"{about}{OWN}, or {MASKED if reason == _HIDES else INSIDE}"


_HIDES = "hides tokens, which the new module would see"
_CONDITION = "says what to compute, which the new module would not know"
# beginnings of the words of an input's name, and the reason why the input is needed
_BY_NAME = (
    (("mask",), _HIDES),
    (("pos", "rot", "rope", "rel", "freq"), "holds positions, which the new module would not know"),
    (("emb", "temb", "cond", "context", "encoder", "time", "skip"), _CONDITION),
)


def _any_starts(words: Iterable[str], starts: tuple[str, ...]) -> bool:
    return any(word.startswith(starts) for word in words)


def cache_fix(value: Value) -> str:
    """Return the fix that keeps a model from passing a cache of keys and values; else empty."""
    is_cache = not isinstance(value, TensorInfo) and "Cache" in value.kind
    return CACHE if is_cache else ""


def _hides(call: Call, value: Value) -> bool:
    """Return whether a tensor says which tokens, or pairs of them, are seen."""
    if not isinstance(value, TensorInfo):
        return False
    first = next(tensor for given in call.inputs for tensor in tensors(given))
    pairs = len(first.shape) == 3 and value.shape[-2:] == (first.shape[1],) * 2
    return value.dtype == "bool" or pairs

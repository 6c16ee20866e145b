"""Find the inputs of a module that its output does not depend on, by running a copy of it."""

from ast import literal_eval
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from modswap.core.decided.dependence import STILL_RATIO
from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import Plain, TensorInfo, Value, tensors
from modswap.live_values import live_tensors
from modswap.ops.apply import module_at
from modswap.ops.run.random_weights import copied, placeholders
from modswap.seeds import seeded

DRAWS = 3  # other values of an input: a discrete choice may not react to a single one
MAX_WEIGHTS = 1 << 26  # of a module that is copied
MAX_ELEMENTS = 1 << 22  # of a tensor of a call


def unused_inputs(model: nn.Module, site: Site) -> tuple[str, ...]:
    """Return the names of a site's tensor inputs that do not change the output of its module.

    A copy with random weights is run on random tensors. Nothing is returned for a module that is
    large, or that does not run by itself.
    """
    old = module_at(model, site.path)
    if site.params > MAX_WEIGHTS or not all(map(_is_small, site.calls)):
        return ()
    with seeded(0), torch.no_grad():
        try:
            module = copied(old, placeholders(model)).eval()
            per_call = [set(_unused(module, call)) for call in site.calls]
        except Exception:  # noqa: BLE001 - a module of the user's may raise anything
            return ()
    return tuple(sorted(set.intersection(*per_call))) if per_call else ()


def _is_small(call: Call) -> bool:
    infos = [tensor for value in call.inputs for tensor in tensors(value)]
    return all(torch.Size(tensor.shape).numel() <= MAX_ELEMENTS for tensor in infos)


def _unused(module: nn.Module, call: Call) -> Iterator[str]:
    """Yield the names of the tensors of a call, but for one at least, that change nothing."""
    named = {name: value for name, value in call.named if isinstance(value, TensorInfo)}
    if len(named) < 2:
        return
    base = {name: _drawn(value) for name, value in call.named}
    before = _outputs(module, call, base)

    def is_still(name: str) -> bool:
        changed = {**base, name: _drawn(named[name])}
        return _same(before, _outputs(module, call, changed))

    for name in named:
        if not call.repeats(name) and all(is_still(name) for _ in range(DRAWS)):
            yield name


def _outputs(module: nn.Module, call: Call, values: Mapping[str, Any]) -> list[torch.Tensor]:
    with seeded(1):
        args = [_copy(values[str(position)]) for position in range(len(call.args))]
        kwargs = {name: _copy(values[name]) for name, _ in call.kwargs}
        return [one for one in live_tensors(module(*args, **kwargs)) if one.is_floating_point()]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _same(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    if not some or [one.shape for one in some] != [one.shape for one in others]:
        return False
    return all(
        bool(((a - b).abs() <= STILL_RATIO * a.abs().max()).all())
        for a, b in zip(some, others, strict=True)
    )


def _drawn(value: Value) -> Any:
    """Return random values like a recorded one.

    Raises:
        ValueError: If it is known by its class only.
    """
    if isinstance(value, TensorInfo):
        dtype: torch.dtype = getattr(torch, value.dtype)
        if dtype.is_floating_point:
            return torch.randn(value.shape)
        return torch.randint(0, 2, value.shape).to(dtype)
    if isinstance(value, Plain):
        return literal_eval(value.text)
    items = [_drawn(item) for item in value.items]
    if value.kind not in {"tuple", "list", "Size"}:
        raise ValueError(f"a {value.kind} cannot be made")
    return items if value.kind == "list" else tuple(items)

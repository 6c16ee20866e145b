"""Recognise self-attention in an old module, and show by a run that it is read right."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isqrt

import torch
from torch import nn

from modswap.core.seen.site import Call
from modswap.nn.inherit.attention_form import Attention, Reading
from modswap.nn.inherit.attention_readings import readings
from modswap.nn.inherit.attention_rows import ATTENTION_ROWS
from modswap.nn.window_attention import WindowAttention
from modswap.ops.build.starts.trial import OldRun, agree, first_trial, output_of

MAX_READINGS = 500  # that are compared with a module


def read_attention(
    old: nn.Module, copy: nn.Module, inner: nn.Module, calls: Sequence[Call], channels: int
) -> Reading | None:
    """Return how an old module is self-attention; None if it is not.

    `copy` is the module of the site with random weights, and `inner` is `old` in it. It is run on
    a call of the site, and a reading holds if it computes the same; parts between the projections,
    such as norms of queries and keys, may be left out for that, and are then noted.
    """
    found = list(itertools.islice(readings(old, channels), MAX_READINGS))
    certain = next((reading for reading in found if reading.certain), None)
    if certain is not None:
        return _noted(old, certain, ())
    if not found or not calls:
        return None
    shown = _shown(copy, inner, found, calls[0])
    if shown is not None:
        return _noted(old, shown, ())
    left = _neutralised(inner, found[0].names)
    shown = _shown(copy, inner, found, calls[0]) if left else None
    return None if shown is None else _noted(old, shown, left)


def _noted(old: nn.Module, reading: Reading, left: tuple[str, ...]) -> Reading:
    """Return a reading with a note on the parameters of the old module that it leaves out."""
    rest = [n for n, _ in old.named_parameters() if n not in reading.names]
    rest = [n for n in rest if not any(n.startswith(f"{one}.") for one in left)]
    rest = [*left, *rest]
    if not rest:
        return reading
    shown = ", ".join(rest[:6]) + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")
    note = f"of the old module {shown} {'is' if len(rest) == 1 else 'are'} left out"
    return replace(reading, notes=(*reading.notes, note))


def _neutralised(inner: nn.Module, used: set[str]) -> tuple[str, ...]:
    """Put an identity in place of the norms inside a copy; return their names."""
    found = [
        name
        for name, module in inner.named_modules()
        if name and _is_vector(module) and not used.intersection(_names(name, module))
    ]
    for name in found:
        parent, _, child = name.rpartition(".")
        setattr(inner.get_submodule(parent), child, nn.Identity())
    return tuple(found)


def _is_vector(module: nn.Module) -> bool:
    """Return whether a layer has parameters, all of one axis, as norms have."""
    own = [parameter.ndim for parameter in module.parameters()]
    return set(own) == {1} and not list(module.children())


def _names(prefix: str, module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters(prefix=prefix)}


def _shown(
    copy: nn.Module, inner: nn.Module, found: Sequence[Reading], call: Call
) -> Reading | None:
    """Return the first reading of a module inside a copy that computes what the copy does."""
    trial = first_trial(copy, call)
    if trial is None:
        return None
    state = inner.state_dict()
    causal = _is_causal(copy, trial)
    for reading in (replace(one, causal=causal) for one in found):
        if any(agree(trial.output, y) for y in _computed(reading.taken(state), trial.x)):
            return reading
    return None


def _is_causal(copy: nn.Module, trial: OldRun) -> bool:
    """Return whether the last token has no part in the output of those before it."""
    x, wanted = trial.x, trial.output
    if x.ndim != 3 or wanted.shape != x.shape or 1 in x.shape[:2]:
        return False
    kept = x.clone()
    x[:, -1] += 1  # of tokens in the second axis
    moved = output_of(copy, trial.inputs)
    x.copy_(kept)
    return agree(wanted[:, :-1], moved[:, :-1]) and not agree(wanted[:, -1], moved[:, -1])


def _computed(form: Attention, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the results of attention on an input, for each way in which its tokens may be laid."""
    width = form.weights["q.weight"].shape[1]
    # folded weights are in double precision
    form = replace(form, weights={name: t.to(x.dtype) for name, t in form.weights.items()})
    with torch.no_grad():
        if x.ndim == 3 and x.shape[2] == width:
            yield from _on_tokens(form, x)
        elif x.ndim == 4 and x.shape[3] == width:
            yield from _on_map(form, x)
        elif x.ndim == 4 and x.shape[1] == width:
            yield from (y.permute(0, 3, 1, 2) for y in _on_map(form, x.permute(0, 2, 3, 1)))


def _on_tokens(form: Attention, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the results on tokens (N, L, C) or (L, N, C), or on those of a square of windows."""
    yield from _safe(form, x)
    yield from (y.transpose(0, 1) for y in _safe(form, x.transpose(0, 1)))
    side = isqrt(x.shape[1])
    if form.reading.window and side**2 == x.shape[1]:
        yield from (y.flatten(1, 2) for y in _on_map(form, x.unflatten(1, (side, side))))


def _on_map(form: Attention, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the results on an NHWC map: over all pixels, or within windows."""
    if not form.reading.window:
        for y in _safe(form, x.flatten(1, 2), (x.shape[1], x.shape[2])):
            yield y.reshape(*x.shape[:3], -1)
        return
    reading = form.reading
    heads, side, width = reading.heads, reading.window, x.shape[3]
    layer = WindowAttention(width, heads, side, reading.shift)
    given = ATTENTION_ROWS[WindowAttention].give(form, layer)
    layer.load_state_dict({**layer.state_dict(), **given.values})
    yield layer.eval()(x)


def _safe(
    form: Attention, x: torch.Tensor, size: tuple[int, int] | None = None
) -> Iterator[torch.Tensor]:
    try:
        yield form.attend(x, size)
    except (RuntimeError, IndexError):
        return  # a table of positions for another number of tokens

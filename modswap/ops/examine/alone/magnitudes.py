"""The magnitudes of the tensors that sites are given in the model."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modswap.live_values import live_tensors
from modswap.ops.examine.bench import Bench
from modswap.ops.run.forward import ready, run_model

Sizes = tuple[float, ...]
_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def magnitudes(bench: Bench, path: str) -> Sizes:
    """Return the root mean squares of the tensors that a site is given, in the order of a call.

    A pass over the original with its own weights shows them; the largest of all calls count. Where
    the weights are not read there is one number, which the last normalisation before the site has
    as weight and bias; none where there is no such layer.
    """
    known: dict[str, Sizes] = bench.shared.setdefault("magnitudes", {})
    if not known:
        known |= _from_norms(bench) if bench.prepared.unreal else _from_pass(bench)
    return known.get(path, ())


def _from_pass(bench: Bench) -> Mapping[str, Sizes]:
    found: dict[str, Sizes] = {}
    case, seed = bench.prepared.cases[0].in_mode("eval"), bench.prepared.seed
    with bench.original() as model, ExitStack() as hooks:
        for path, old, _ in bench.sites:
            note = partial(_note, found, path)
            hooks.enter_context(old.register_forward_pre_hook(note, with_kwargs=True))
        with ready(model, case, seed) as (args, kwargs, dtype):
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
    return found


def _note(found: dict[str, Sizes], path: str, _: nn.Module, args: Any, kwargs: Any) -> None:
    now = tuple(map(_root_mean_square, live_tensors([args, kwargs])))
    was = found.get(path, now)
    found[path] = tuple(map(max, was, now)) if len(was) == len(now) else max(was, now, key=len)


def _root_mean_square(*tensors: torch.Tensor) -> float:
    floating = [t.detach().double().square() for t in tensors if t.is_floating_point()]
    size = float(sum(map(torch.mean, floating), torch.zeros(())).sqrt()) if floating else 0.0
    return size if size < float("inf") else 0.0  # neither infinite nor NaN


def _from_norms(bench: Bench) -> Mapping[str, Sizes]:
    with bench.original() as model:
        modules = dict(model.named_modules())
    paths = [path for path, _, _ in bench.sites]
    found: dict[str, Sizes] = {}
    last: Sizes = ()
    for visit in bench.prepared.before[0].seen.visits:
        for path in paths:
            if f"{visit.path}.".startswith(f"{path}."):
                found.setdefault(path, last)
        module = modules.get(visit.path)
        if isinstance(module, _NORMS) and not any(p.is_meta for p in module.parameters()):
            last = (_root_mean_square(*module.parameters(recurse=False)),)
    return found


def scaled(leaves: Sequence[torch.Tensor], sizes: Sizes) -> list[torch.Tensor]:
    """Return tensors of a call at the magnitudes of a site; smaller ones stay as they are."""
    each = sizes * len(leaves) if len(sizes) == 1 else sizes
    if len(each) != len(leaves):
        return list(leaves)
    pairs = zip(leaves, each, strict=True)
    return [leaf * size if leaf.is_floating_point() and size > 1 else leaf for leaf, size in pairs]

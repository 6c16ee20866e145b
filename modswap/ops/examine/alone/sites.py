"""Pairs of the old and the new module of each site, shared by the examinations that run them."""

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import NONE, tensors
from modswap.ops.examine.alone import bounds
from modswap.ops.examine.alone.inputs import CallInputs, enlarged, make_inputs, shrunk
from modswap.ops.examine.alone.likeness import first_alike
from modswap.ops.examine.alone.pair import NoPair, Pair, loses_finite, outputs_of
from modswap.ops.examine.bench import Bench
from modswap.ops.run.describe import one_line, positional
from modswap.ops.run.random_weights import UnfitError, copied, placeholders
from modswap.seeds import seeded

KEPT_BYTES = 256 << 20  # of the kept pairs' weights; a larger pair is made for each examination
PAIR_SEED, CHECK_SEED = 0, 1  # different seeds: a changed input must not equal the first input
REPORTER = "finite"  # the examination that reports new modules that raise on real values
RAISES = "on real values it raises, as the original does not"
LONG = "it, and those before it, would take long; `--thorough` takes that time"
RAISES_FIX = "shapes alone pass: run its forward on a random tensor to see why"


def pairs(bench: Bench) -> Iterator[Pair | NoPair]:
    """Yield the pair of each site; a pair is made once for all examinations of a bench.

    Sites that are alike share the pair of the first of them.
    """
    work = 0
    firsts = first_alike(bench)
    made: dict[str, Pair | NoPair] = {}  # the last one alone: a pair may be large
    for path, old, new in bench.sites:
        first = firsts[path]
        if first not in made:
            site = bench.prepared.site(first)
            work += bounds.site_macs(site, (old, new)) if first == path else 0
            made = {first: _bounded(bench, site, work)}
        yield made[first] if first == path else replace(made[first], path=path, like=first)


def _bounded(bench: Bench, site: Site, work: int) -> Pair | NoPair:
    """Return the pair of a site, or none where the sites up to it take too much work."""
    if work > bounds.MAX_SITES_MACS and not bench.thorough:
        return NoPair(site.path, _reason(UnfitError(LONG), site.path))
    return _kept(bench, site.path, partial(_site, bench, site))


def whole_model(bench: Bench) -> Pair | NoPair:
    """Return the pair of the whole model, before and after the swap."""
    if any(isinstance(pair, NoPair) and pair.raised for pair in pairs(bench)):
        return NoPair("", "a site fails on real values")
    return _kept(bench, "", partial(_whole, bench))


def finding_of(
    name: str,
    pair: Pair | NoPair,
    check: Callable[[Pair], Finding],
    bench: Bench,
    *,
    compares: bool = True,
    shares: bool = True,
) -> Finding:
    """Return the finding of an examination on one pair, skipped where the pair does not run.

    A check that `compares` outputs is also skipped where the new module's outputs are not finite.
    A check that `shares` is passed without a run where it passed, without a word, at a site that
    is alike.
    """
    passed: dict[tuple[str, str], Finding] = bench.shared.setdefault("passed", {})
    key = name, pair.like or pair.path
    if shares and pair.like and key in passed:
        known = passed[key]
        return replace(known, path=pair.path, data={**known.data, "like": pair.like})
    found = _finding_of(name, pair, check, bench, compares=compares)
    if found.status == "passed" and not found.what:
        passed[key] = found
    return found


def _finding_of(
    name: str,
    pair: Pair | NoPair,
    check: Callable[[Pair], Finding],
    bench: Bench,
    *,
    compares: bool,
) -> Finding:
    if isinstance(pair, NoPair):
        if pair.raised and name == _reporter(bench, name, pair.path):
            return Finding(name, pair.path, "failed", f"{RAISES}: {pair.raised}", RAISES_FIX)
        return Finding(name, pair.path, "skipped", pair.reason)
    # a module warns in the passes as well
    with seeded(CHECK_SEED), warnings.catch_warnings(action="ignore"):
        try:
            if compares and loses_finite(pair):
                what = "its output is not finite, the original's is: no values to compare"
                return Finding(name, pair.path, "skipped", what)
            return check(pair)
        except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
            return Finding(name, pair.path, "skipped", _reason(error, pair.path))


def _reporter(bench: Bench, name: str, path: str) -> str:
    """Return the examination that reports a module that raises, if this one now examines it."""
    if REPORTER not in bench.recipe.verify.skip:
        return REPORTER
    firsts: dict[str, str] = bench.shared.setdefault("reporters", {})
    return firsts.setdefault(path, name)


def _kept(bench: Bench, path: str, make: Callable[[], Pair]) -> Pair | NoPair:
    """Return the pair of a path, from the bench or made."""
    kept: dict[str, Pair | NoPair] = bench.shared.setdefault("pairs", {})
    if path in kept:
        return kept[path]
    with seeded(PAIR_SEED), warnings.catch_warnings(action="ignore"):
        try:
            pair: Pair | NoPair = make()
        except _RaisesError as error:
            pair = NoPair(path, "it does not run on real values", str(error))
        except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
            pair = NoPair(path, _reason(error, path))
    held = [each for each in (*kept.values(), pair) if isinstance(each, Pair)]
    if sum(bounds.weight_bytes(each.old, each.new) for each in held) <= KEPT_BYTES:
        kept[path] = pair
    return pair


class _RaisesError(Exception):
    """Raised where the new module raises and the old one does not, with that message."""


def _reason(error: Exception, path: str) -> str:
    why = str(error) if isinstance(error, UnfitError) else one_line(error)
    what = "it was not run by itself" if path else "the model was not run as a whole"
    return f"{what}: {why}"


def _site(bench: Bench, site: Site) -> Pair:
    """Return the pair of a site, on small maps if the modules take them."""
    new = next(module for path, _, module in bench.sites if path == site.path)
    modules = bench.old[site.path], new
    call = _richest(site)
    bounds.check_site(modules, call, thorough=bench.thorough)
    around = placeholders(bench.model, *bench.old.values())
    old, new = (copied(module, around) for module in modules)
    axis = 1 if getattr(modules[0], "batch_first", True) is False else 0
    names = positional(modules[0], len(call.args))

    def on(call: Call) -> Pair:
        batch = _site_batch(bench, call, axis)
        pair = Pair(site.path, old, new, CallInputs(call, (), (), ()), axis, batch)
        return _enlarged(pair, names, thorough=bench.thorough)

    small = shrunk(call, site.layout)
    if small != call:
        try:
            return on(small)
        except Exception:  # noqa: BLE001 - a module may take only the recorded size
            return on(call)
    return on(call)


def unfilled(bench: Bench, path: str) -> Pair:
    """Return the pair of a site of any size on tensors without data.

    Its call has no tensors where the modules cannot be copied or the call cannot be made.
    """
    site = bench.prepared.site(path)
    old, new = next((old, new) for each, old, new in bench.sites if each == path)
    call = site.calls[0] if site.calls else Call((), (), NONE)
    around = placeholders(bench.model, *bench.old.values())
    try:
        modules = [copy.deepcopy(module, {**around}) for module in (old, new)]
        for weight in (weight for module in modules for weight in module.parameters()):
            weight.requires_grad_(weight.is_floating_point())
        with torch.device("meta"):
            inputs = make_inputs(call, positional(old, len(call.args)))
    except Exception:  # noqa: BLE001 - a module's own code may raise anything
        return Pair(path, old, new, CallInputs(call, (), (), ()))
    return Pair(path, modules[0], modules[1], inputs)


def _whole(bench: Bench) -> Pair:
    calls = bench.prepared.before[0].seen.by_path().get("", ())
    if not calls:
        raise UnfitError("the model did not run")
    bounds.check_model(bench)
    bounds.check_site((bench.model,), calls[0], thorough=True)
    around = placeholders(bench.model, *bench.old.values())
    new = copied(bench.model, around)
    with bench.original() as model:
        old = copied(model, around)
    names = positional(bench.model, len(calls[0].args))
    pair = Pair("", old, new, CallInputs(calls[0], (), (), ()), 0, _batch(bench))
    return _enlarged(pair, names, thorough=bench.thorough)


def along_second_axis(pair: Pair) -> Pair | None:
    """Return the pair of a model with its second axis as the batch; None if it does not run so."""
    call = pair.inputs.call
    batch = next(iter(_first_shape(call)[1:]), 0)
    larger = call if batch != 1 else enlarged(call, 1, batch, 2)
    names = positional(pair.old, len(call.args))
    try:
        made = replace(pair, inputs=make_inputs(larger, names), batch_axis=1, batch=max(batch, 2))
        return _tried(made) if batch else None
    except Exception:  # noqa: BLE001 - a module's own code may raise anything
        return None


def _richest(site: Site) -> Call:
    """Return the first of the calls with the most tensors."""
    if not site.calls:
        raise UnfitError("no pass reached it")
    counts = [sum(1 for value in call.inputs for _ in tensors(value)) for call in site.calls]
    return site.calls[counts.index(max(counts))]


def _first_shape(call: Call) -> tuple[int, ...]:
    return next((tensor.shape for value in call.inputs for tensor in tensors(value)), ())


def _batch(bench: Bench) -> int:
    """Return the size of the first axis of the model's first input; 0 if it has none."""
    calls = bench.prepared.before[0].seen.by_path().get("", ())
    shape = _first_shape(calls[0]) if calls else ()
    return shape[0] if shape else 0


def _site_batch(bench: Bench, call: Call, axis: int) -> int:
    """Return the size of the batch, if the first tensor of a site has the model's; else 0."""
    batch = _batch(bench)
    return batch if batch and _first_shape(call)[axis : axis + 1] == (batch,) else 0


def _enlarged(pair: Pair, names: tuple[str, ...], *, thorough: bool) -> Pair:
    """Return a pair that runs, on a batch of two or more where the original takes that."""
    as_seen = replace(pair, inputs=make_inputs(pair.inputs.call, names))
    if not thorough:
        for module in (pair.old, pair.new):
            bounds.check_peak(module, as_seen.inputs)
    if pair.batch != 1:
        return _tried(as_seen)
    larger = make_inputs(enlarged(pair.inputs.call, pair.batch_axis, 1, 2), names)
    if not _takes_two(pair.old, larger, pair.batch_axis):
        return _tried(as_seen)
    try:
        return _tried(replace(pair, inputs=larger, batch=2))
    except Exception as error:  # noqa: BLE001 - the new module's own code
        return replace(_tried(as_seen), batch=2, refused=one_line(error))


def _takes_two(module: nn.Module, inputs: CallInputs, axis: int) -> bool:
    """Return whether a module returns two samples for two."""
    try:
        outputs: list[torch.Tensor] = outputs_of(module, inputs)
    except Exception:  # noqa: BLE001 - it may well depend on a batch of one
        return False
    return bool(outputs) and outputs[0].shape[axis : axis + 1] == (2,)


def _tried(pair: Pair) -> Pair:
    """Return a pair whose modules both run."""
    outputs_of(pair.old, pair.inputs)
    try:
        outputs_of(pair.new, pair.inputs)
    except UnfitError:
        raise
    except Exception as error:
        raise _RaisesError(one_line(error)) from error
    return pair

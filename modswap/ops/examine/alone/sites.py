"""Rehearsals of every site, and of a small model as a whole; each is made once for all checks."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from modswap.core.decided.cost import size_text
from modswap.core.finding import CheckName, Finding
from modswap.core.seen.site import Call, Site, extent
from modswap.core.seen.values import Value, tensors
from modswap.ops.examine.alone.inputs import Inputs, enlarged, make_inputs, shrunk
from modswap.ops.examine.alone.pair import Rehearsal, perform
from modswap.ops.examine.alone.readers import judged
from modswap.ops.examine.behaviour import CHECKS
from modswap.ops.examine.bench import Bench, Examination
from modswap.ops.examine.finite import breaks
from modswap.ops.measure.cost import metered
from modswap.ops.run.describe import one_line, positional
from modswap.ops.run.isolation import untouched
from modswap.ops.run.random_weights import UnfitError, copied, placeholders
from modswap.ops.run.stand_ins import meta_values
from modswap.seeds import seeded

MOST = 64 << 20  # bytes of one tensor of a call, and of the weights of a model run as a whole
WEIGHTS = 256 << 20  # bytes of the weights of a site's two modules
# multiplications of one run, of all sites together and of the whole model; a clock would let the
# same check find other things on a busy machine
WORK = 5_000_000_000
MACS = 100_000_000
PEAK = 256 << 20  # bytes of one run of a site and back
WHOLE: tuple[CheckName, ...] = ("dependence", "independence", "finite")
_BROKEN = "on real values it raises, as the original does not"
COMPARED: tuple[CheckName, ...] = ("gradients", "dependence", "independence", "determinism")


def rows() -> tuple[Examination, ...]:
    """Return a row for each check; the first that is wanted does the work for all."""
    return tuple(Examination(name, partial(rehearsed, name)) for name in CHECKS)


def rehearsed(name: CheckName, bench: Bench) -> Iterator[Finding]:
    """Yield what all wanted checks find, if this one is the first of them.

    Args:
        name: A row of `CHECKS`.
        bench: What stands.
    """
    wanted = [one for one in CHECKS if one not in bench.recipe.verify.skip]
    if wanted[:1] != [name]:
        return
    around = placeholders(bench.model, *bench.old.values())
    sites = {site.path: site for built in bench.prepared.built for site in built.sites}
    done = 0
    told: list[Finding] = []
    for path, old, new in bench.sites:
        done += _work(sites[path], (old, new))
        make: Callable[[], Rehearsal] = partial(_site, bench, sites[path], (old, new), around)
        if done > WORK and not bench.thorough:
            make = _too_much
        found = [
            judged(bench, one) if one.check == "untouched" else one
            for one in _checked(make, path, wanted)
        ]
        told += found
        yield from found
    yield from _of_the_whole(bench, wanted, told)


def _of_the_whole(
    bench: Bench, wanted: Sequence[CheckName], told: Sequence[Finding]
) -> Iterator[Finding]:
    """Yield what is found of the model as a whole; what a site fails is told there alone."""
    whole = [one for one in WHOLE if one in wanted]
    reasons: dict[CheckName, str] = {}
    if any(one.check == "dependence" and one.status == "failed" for one in told):
        reasons = {"dependence": "a site fails it"}
    if any(_BROKEN in one.what for one in told):
        reasons = dict.fromkeys(whole, "a site fails on real values")
    yield from (Finding(one, "", "skipped", reasons[one]) for one in whole if one in reasons)
    rest = [one for one in whole if one not in reasons]
    if rest:
        yield from _checked(partial(_whole, bench), "", rest)


class _BrokenError(Exception):
    """The new module raises where the original does not; says what."""


def _too_much() -> Rehearsal:
    raise UnfitError("it, and those before it, would take long; `--thorough` takes that time")


def _work(site: Site, modules: Sequence[nn.Module]) -> int:
    """Return about how many multiplications a site's modules do in one run each."""
    seen = next((t for value in _small_inputs(site) for t in tensors(value)), None)
    if seen is None:
        return 0
    held = extent(seen.shape, site.layout) if site.layout else None
    places = held.tokens * seen.shape[0] if held else math.prod(seen.shape[:-1])
    return places * sum(p.numel() for module in modules for p in module.parameters())


def _small_inputs(site: Site) -> tuple[Value, ...]:
    return shrunk(site.calls[0], site.layout).inputs if site.calls else ()


def _checked(
    make: Callable[[], Rehearsal], path: str, wanted: Iterable[CheckName]
) -> list[Finding]:
    """Return a finding for each check, skipped where the rehearsal cannot be made or run."""
    # what a module warns of here it warns of in the passes as well
    with seeded(0), warnings.catch_warnings(action="ignore"):
        try:
            on: Rehearsal | None = make()
            reason = ""
        except _BrokenError as error:
            return _broken(str(error), path, list(wanted))
        except Exception as error:  # noqa: BLE001 - a module's own code may raise anything
            on, reason = None, _reason(error, path)
        if on is None:
            return [Finding(name, path, "skipped", reason) for name in wanted]
        return [_one(name, on) for name in wanted]


def _broken(error: str, path: str, wanted: Sequence[CheckName]) -> list[Finding]:
    """Return a failure, under the name of the check of outputs if that is wanted, and skips."""
    what = f"{_BROKEN}: {error}"
    fix = "shapes alone pass: run its forward on a random tensor to see why"
    first: CheckName = "finite" if "finite" in wanted else wanted[0]
    rest = "it does not run on real values"
    return [
        Finding(name, path, "failed", what, fix)
        if name == first
        else Finding(name, path, "skipped", rest)
        for name in wanted
    ]


def _one(name: CheckName, on: Rehearsal) -> Finding:
    try:
        if name in COMPARED and breaks(on):
            what = "its output is not finite, the original's is: there is nothing to compare"
            return Finding(name, on.path, "skipped", what)
        return CHECKS[name](on)
    except Exception as error:  # noqa: BLE001 - as above
        return Finding(name, on.path, "skipped", _reason(error, on.path))


def _reason(error: Exception, path: str) -> str:
    told = str(error) if isinstance(error, UnfitError) else one_line(error)
    what = "it was not run by itself" if path else "the model was not run as a whole"
    return f"{what}: {told}"


def _richest(site: Site) -> Call:
    """Return the first of the calls with the most tensors."""
    if not site.calls:
        raise UnfitError("no pass reached it")
    counts = [sum(1 for value in call.inputs for _ in tensors(value)) for call in site.calls]
    return site.calls[counts.index(max(counts))]


def _site(
    bench: Bench,
    site: Site,
    modules: tuple[nn.Module, nn.Module],
    around: dict[int, torch.Tensor],
) -> Rehearsal:
    call = _richest(site)
    _bounded(modules, call, thorough=bench.thorough)
    old, new = (copied(module, around) for module in modules)
    axis = 1 if getattr(modules[0], "batch_first", True) is False else 0
    names = positional(modules[0], len(call.args))

    def made(one: Call) -> Rehearsal:
        on = Rehearsal(site.path, old, new, _none(one), axis, _site_batch(bench, one, axis))
        return _rehearsal(on, names, thorough=bench.thorough)

    small = shrunk(call, site.layout)
    if small != call:
        try:
            return made(small)
        except Exception:  # noqa: BLE001 - one of the two may take the size that was seen alone
            return made(call)
    return made(call)


def _site_batch(bench: Bench, call: Call, axis: int) -> int:
    """Return the size of the batch, if a site's first tensor has the model's; else 0."""
    batch = _batch(bench)
    held = next((t.shape for value in call.inputs for t in tensors(value)), ())
    return batch if batch is not None and held[axis : axis + 1] == (batch,) else 0


def _none(call: Call) -> Inputs:
    return Inputs(call, (), (), (), ())


def _rehearsal(on: Rehearsal, names: tuple[str, ...], *, thorough: bool) -> Rehearsal:
    """Return a rehearsal on a batch of two or more, where the original takes that."""
    seen = make_inputs(on.inputs.call, names)
    plain = replace(on, inputs=seen)
    if not thorough:
        for module in (on.old, on.new):
            _light(module, seen)
    if on.batch != 1:
        return _tried(plain)
    larger = make_inputs(enlarged(on.inputs.call, on.axis, 1, 2), names)
    if not _takes(on.old, larger, on.axis):
        return _tried(plain)
    try:
        return _tried(replace(on, inputs=larger, batch=2))
    except Exception as error:  # noqa: BLE001 - the new module's own code
        _tried(plain)
        return replace(plain, batch=2, refused=one_line(error))


def _takes(module: nn.Module, inputs: Inputs, axis: int) -> bool:
    """Return whether a module gives two samples for two."""
    try:
        outputs = perform(module, inputs)
    except Exception:  # noqa: BLE001 - it may well depend on a batch of one
        return False
    return bool(outputs) and outputs[0].shape[axis : axis + 1] == (2,)


def _tried(on: Rehearsal) -> Rehearsal:
    """Return a rehearsal that both modules can do."""
    perform(on.old, on.inputs)
    try:
        perform(on.new, on.inputs)
    except UnfitError:
        raise
    except Exception as error:
        raise _BrokenError(one_line(error)) from error
    return on


def _light(module: nn.Module, inputs: Inputs) -> None:
    """Refuse a run that would take much memory, as foretold on tensors without data."""
    try:
        with (
            untouched(module, training=False, unreal=True),
            meta_values(module) as (named, moved),
            torch.no_grad(),
        ):
            leaves = moved(list(inputs.leaves))
            args, kwargs = inputs.live(leaves)  # on that device, those that are one still one
            peak = metered(module, named, args, kwargs, gradients=False).peak
    except Exception:  # noqa: BLE001 - what cannot be foretold is let through
        return
    if peak > PEAK:
        raise UnfitError(f"a run takes {size_text(peak)}, `--thorough` takes that memory")


def _macs(bench: Bench) -> int:
    """Return about how many multiplications the layers of the original do in one run."""
    macs = 0
    with bench.original() as model:
        modules = dict(model.named_modules())
        for visit in bench.prepared.before[0].seen.visits:
            given = next(tensors(visit.call.output), None)
            held = modules[visit.path].parameters(recurse=False) if given is not None else ()
            for weight in held:
                if given is not None and weight.ndim > 1:
                    macs += torch.Size(given.shape).numel() * weight[0].numel()
    return macs


def _batch(bench: Bench) -> int | None:
    call = _model_call(bench)
    first = next((t for value in call.inputs for t in tensors(value)), None) if call else None
    return first.shape[0] if first is not None and first.shape else None


def _model_call(bench: Bench) -> Call | None:
    calls = bench.prepared.before[0].seen.by_path().get("", ())
    return calls[0] if calls else None


def _largest(call: Call) -> int:
    """Return the bytes of the largest tensor in a call, at four a number."""
    values = (*call.inputs, call.output)
    sizes = [torch.Size(t.shape).numel() for value in values for t in tensors(value)]
    return 4 * max(sizes, default=0)


def _bounded(modules: Sequence[nn.Module], call: Call, *, thorough: bool) -> None:
    """Refuse what takes more memory or time than an examination should."""
    if _largest(call) > MOST // 2:
        raise UnfitError(f"its tensors are larger than {MOST >> 21} MiB")
    nbytes = sum(4 * p.numel() for module in modules for p in module.parameters())
    if nbytes > WEIGHTS and not thorough:
        raise UnfitError(f"its weights are {nbytes >> 20} MiB, at most {WEIGHTS >> 20} are drawn")


def _whole(bench: Bench) -> Rehearsal:
    call = _model_call(bench)
    if call is None:
        raise UnfitError("the model did not run")
    nbytes = sum(4 * p.numel() for p in bench.model.parameters())
    if nbytes > MOST:
        raise UnfitError(
            f"the model's weights are {nbytes >> 20} MiB, at most {MOST >> 20} are drawn"
        )
    macs = _macs(bench)
    if macs > MACS and not bench.thorough:
        raise UnfitError(f"a run takes {macs:.1e} multiplications, `--thorough` takes that time")
    _bounded((bench.model,), call, thorough=True)
    around = placeholders(bench.model, *bench.old.values())
    new = copied(bench.model, around)
    with bench.original() as model:
        old = copied(model, around)
    names = positional(bench.model, len(call.args))
    on = Rehearsal("", old, new, _none(call), 0, _batch(bench) or 0)
    return _rehearsal(on, names, thorough=bench.thorough)

"""Bounds of memory and work for running the modules of a site alone."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from modswap.core.decided.cost import count_text, size_text
from modswap.core.seen.site import Call, Site, extent
from modswap.core.seen.values import tensors
from modswap.ops.examine.alone.inputs import CallInputs, shrunk
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.cost import metered
from modswap.ops.run.isolation import untouched
from modswap.ops.run.random_weights import UnfitError
from modswap.ops.run.stand_ins import meta_values

MAX_TENSOR_BYTES = 32 << 20  # of one tensor of a call
MAX_MODEL_BYTES = 64 << 20  # weights of a model that is run as a whole
MAX_SITE_BYTES = 256 << 20  # weights of the two modules of a site
MAX_PEAK_BYTES = 256 << 20  # memory of one run of a module
# multiplications, of all sites together and of a run of the whole model; a bound on time would
# change the findings on a busy machine
MAX_SITES_MACS = 5_000_000_000
MAX_MODEL_MACS = 100_000_000


def check_site(modules: Sequence[nn.Module], call: Call, *, thorough: bool) -> None:
    """Refuse modules with large weights, and a call with large tensors."""
    values = (*call.inputs, call.output)
    sizes = [torch.Size(t.shape).numel() for value in values for t in tensors(value)]
    if 4 * max(sizes, default=0) > MAX_TENSOR_BYTES:
        raise UnfitError(f"its tensors are larger than {MAX_TENSOR_BYTES >> 20} MiB")
    nbytes = weight_bytes(*modules)
    if nbytes > MAX_SITE_BYTES and not thorough:
        most = MAX_SITE_BYTES >> 20
        raise UnfitError(f"its weights are {nbytes >> 20} MiB, at most {most} are drawn")


def check_model(bench: Bench) -> None:
    """Refuse to run a whole model with large weights or many multiplications."""
    nbytes = weight_bytes(bench.model)
    if nbytes > MAX_MODEL_BYTES:
        most = MAX_MODEL_BYTES >> 20
        raise UnfitError(f"the model's weights are {nbytes >> 20} MiB, at most {most} are drawn")
    macs = model_macs(bench)
    if macs > MAX_MODEL_MACS and not bench.thorough:
        raise UnfitError(
            f"a run takes {count_text(round(macs))} multiplications, `--thorough` takes that time"
        )


def check_peak(module: nn.Module, inputs: CallInputs) -> None:
    """Refuse a run that would take much memory, measured on tensors without data."""
    try:
        with (
            untouched(module, training=False, unreal=True),
            meta_values(module) as (named, moved),
            torch.no_grad(),
        ):
            # moved before the call is made, so that equal inputs stay the same tensor
            args, kwargs = inputs.live(moved(list(inputs.leaves)))
            peak = metered(module, named, args, kwargs, gradients=False).peak
    except Exception:  # noqa: BLE001 - a module that needs data is accepted
        return
    if peak > MAX_PEAK_BYTES:
        raise UnfitError(f"a run takes {size_text(peak)}, `--thorough` takes that memory")


def weight_bytes(*modules: nn.Module) -> int:
    """Return the bytes of the weights of modules in float32."""
    return sum(4 * parameter.numel() for module in modules for parameter in module.parameters())


def site_macs(site: Site, modules: Sequence[nn.Module]) -> int:
    """Return the approximate number of multiplications of one run of each module of a site."""
    inputs = shrunk(site.calls[0], site.layout).inputs if site.calls else ()
    first = next((tensor for value in inputs for tensor in tensors(value)), None)
    if first is None:
        return 0
    held = extent(first.shape, site.layout) if site.layout else None
    places = held.tokens * first.shape[0] if held else math.prod(first.shape[:-1])
    return places * weight_bytes(*modules) // 4


def model_macs(bench: Bench) -> int:
    """Return the approximate number of multiplications of one run of the original model."""
    macs = 0
    with bench.original() as model:
        modules = dict(model.named_modules())
        for visit in bench.prepared.before[0].seen.visits:
            output = next(tensors(visit.call.output), None)
            if output is not None:
                weights = modules[visit.path].parameters(recurse=False)
                places = torch.Size(output.shape).numel()
                macs += sum(places * w[0].numel() for w in weights if w.ndim > 1)
    return macs

"""Notes on settings of libraries and of torch under which a module put in is passed by."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modswap.core.finding import Finding
from modswap.nn.insertion import Insertion
from modswap.ops.apply import module_at
from modswap.ops.examine.bench import Bench
from modswap.ops.run.devices import device_of
from modswap.ops.run.isolation import set_mode
from modswap.ops.run.model_copy import copied_model, in_float32, too_large
from modswap.seeds import seeded

# methods by which libraries make a model keep fewer activations; some then run the members of a
# Sequential one by one
CHECKPOINTING: Mapping[str, Callable[[nn.Module], object]] = {
    "set_grad_checkpointing": lambda model: model.set_grad_checkpointing(True),  # type: ignore[operator] # timm's
    "gradient_checkpointing_enable": lambda model: model.gradient_checkpointing_enable(),  # type: ignore[operator] # transformers'
}


def insertion_notes(bench: Bench) -> Iterator[Finding]:
    """Yield each module put in that checkpointing or synchronized batch norms would pass by."""
    paths = [b.paths[0] for b in bench.prepared.built if isinstance(b.module, Insertion)]
    for path in paths:
        beside = path.rpartition(".")[0]
        if isinstance(module_at(bench.model, beside), _BatchNorm):
            what = (
                "`SyncBatchNorm.convert_sync_batchnorm` makes a new module of the batch norm "
                "beside it, which would never run it"
            )
            fix = "convert the model first and swap then, or put it in beside the module around"
            yield Finding("survival", path, "passed", what, fix)
    method = next((m for m in CHECKPOINTING if callable(getattr(bench.model, m, None))), "")
    if paths and method and not too_large(bench.model):
        for path in _passed_by(bench, method, paths):
            beside = path.rpartition(".")[0]
            site = module_at(bench.model, beside)
            last = (
                f"{beside}.{len(site) - 1}" if isinstance(site, nn.Sequential) else "its last part"
            )
            what = (
                f"after `{method}` the model runs the parts of {beside} by themselves, without it"
            )
            fix = f"do without `{method}`, or put it in after {last}"
            yield Finding("survival", path, "passed", what, fix)


def _passed_by(bench: Bench, method: str, paths: list[str]) -> list[str]:
    """Return the modules put in that a copy of the model runs less often after a method."""
    prepared = bench.prepared
    try:
        model = copied_model(bench.model, unreal=prepared.unreal, seed=prepared.seed)
        model, dtype = in_float32(model, prepared.cases[0])
        before = _counted(bench, model, dtype, paths)
        CHECKPOINTING[method](model)
        after = _counted(bench, model, dtype, paths)
    except Exception:  # noqa: BLE001 - a model's own code may raise anything, and refuse the method
        return []
    return [path for path in paths if after[path] < before[path]]


def _counted(
    bench: Bench, model: nn.Module, dtype: torch.dtype | None, paths: list[str]
) -> dict[str, int]:
    """Return how often a training pass runs each module put in."""
    counts = dict.fromkeys(paths, 0)

    def counting(path: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            counts[path] += 1

        return note

    handles = [module_at(model, path).register_forward_hook(counting(path)) for path in paths]
    set_mode(model, training=True)
    seed = bench.prepared.seed
    try:
        with seeded(seed), torch.enable_grad():
            args, kwargs = bench.prepared.cases[0].call.live(seed, dtype, device_of(model))
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return counts

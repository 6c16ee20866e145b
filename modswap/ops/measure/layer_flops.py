"""Count the operations of every module in a pass, on tensors without data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from modswap.nn.attention_backend import plain_attention
from modswap.ops.measure.cost import metered
from modswap.ops.measure.meter import Meter
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.inputs import Case, make
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from modswap.seeds import seeded


def layer_flops(model: nn.Module, case: Case, *, seed: int = 0) -> dict[nn.Module, int]:
    """Return the FLOPs of all calls of each module that ran, those of modules in it included.

    A module that does not run on tensors without data has none: then it is empty.
    """
    for stand_ins in (meta_values, fake_values):
        try:
            return _counted(model, case, stand_ins, seed)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            del error
    return {}


def _counted(model: nn.Module, case: Case, stand_ins: StandIns, seed: int) -> dict[nn.Module, int]:
    dtype, meter = pass_dtype(model, case), Meter()
    flops: dict[nn.Module, int] = {}
    with (
        untouched(model, training=case.mode == "train", unreal=True),
        seeded(seed),
        plain_attention(),
        stand_ins(model, dtype) as (tensors, moved),
        _counting(model, lambda: meter.flops, flops),
    ):
        args, kwargs = (moved(make(v, None, dtype)) for v in (case.call.args, case.call.kwargs))
        metered(model, tensors, args, kwargs, gradients=False, meter=meter)
    return flops


@contextmanager
def _counting(
    model: nn.Module, count: Callable[[], int], flops: dict[nn.Module, int]
) -> Iterator[None]:
    """Add to `flops` what each module counts in a block."""
    begun: list[int] = []

    def begin(*_: Any) -> None:
        begun.append(count())

    def end(module: nn.Module, *_: Any) -> None:
        flops[module] = flops.get(module, 0) + count() - begun.pop()

    hooks = [module.register_forward_pre_hook(begin, prepend=True) for module in model.modules()]
    hooks += [module.register_forward_hook(end) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

"""Count the operators of each line: FLOPs as torch's counter has them, others, and new bytes."""

import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from modswap.live_values import nbytes_of, plain_parts
from modswap.ops.explain.recorder import LineRecord, LineRecorder

_aten = torch.ops.aten
_DECOMPOSED = "CompositeImplicitAutograd"
_Count = Callable[..., int]


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _recurrent(x: Any, weight: Any, recurrent: Any, *_: Any, **__: Any) -> int:
    """Return the FLOPs of one layer over all steps: x is (steps, batch, features)."""
    return int(2 * x.shape[0] * x.shape[1] * (weight.numel() + recurrent.numel()))


def _beyond() -> dict[Any, _Count]:
    """Return formulas of operators that run on the CPU and torch's counter leaves out."""
    formulas = {
        "_scaled_dot_product_flash_attention_for_cpu": _attention,
        "mkldnn_rnn_layer": _recurrent,
    }
    # private operators: one may be missing one day
    return {getattr(_aten, name, None): formula for name, formula in formulas.items()}


class _Kind(NamedTuple):
    """The treatment of an operator."""

    name: str
    parts: Callable[..., Any] | None  # runs it step by step
    own: bool  # whether it is an operator of Python, whose steps torch's counter does not see
    counted: _Count | None  # FLOPs as torch's counter has them
    beyond: _Count | None
    fresh: bool  # whether its results are new memory
    makes: bool  # whether that is not filled


@lru_cache(maxsize=4096)
def _kind_of(func: Any) -> _Kind:
    """Return the treatment of an operator."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace == "prim":  # noqa: SLF001 - torch has no other name for it
        return _Kind("", None, False, None, None, False, False)  # noqa: FBT003 - fields of a tuple
    name, packet = func.name(), func.overloadpacket
    own = torch._library.custom_ops.OPDEFS.get(name)  # noqa: SLF001 - as above
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(name, _DECOMPOSED)  # noqa: SLF001 - as above
    parts = own._init_fn if own else func.decompose if composite else None  # noqa: SLF001 - as above
    # a view that its schema does not declare
    view = packet is _aten._unsafe_view  # noqa: SLF001 - the operator's name
    returns = func._schema.returns  # noqa: SLF001 - as above
    fresh = not view and all(one.alias_info is None for one in returns)
    counted = flop_registry.get(packet)
    return _Kind(
        name, parts, own is not None, counted, _beyond().get(packet), fresh, "empty" in name
    )


class Operators(TorchDispatchMode):
    """Add the cost of each operator to the line that runs."""

    supports_higher_order_operators = True

    def __init__(self, recorder: LineRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.flops = 0
        self.beyond: Counter[str] = Counter()  # by operator
        self._recorder = recorder
        self._inside: list[str] = []  # operators of Python that run
        self._outside = LineRecord()  # takes what no line of the function asked for

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tracing = sys.gettrace()
        sys.settrace(None)  # each call of Python in here would be an event
        try:
            kind = _kind_of(func)
            if kind.parts is None:
                out = func(*args, **kwargs)
                self._count(kind, out, args, kwargs)
                return out
            self._inside += [func.name()] if kind.own else []
            sys.settrace(tracing if not kind.own else None)
            try:
                with self:
                    return kind.parts(*args, **kwargs)
            finally:
                del self._inside[len(self._inside) - kind.own :]
        finally:
            sys.settrace(tracing)

    def _count(self, kind: _Kind, out: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        spot = self._recorder.here or self._outside
        if kind.counted is not None:
            flops = kind.counted(*args, **kwargs, out_val=out)
            if self._inside:
                self._left_out(spot, self._inside[0], flops)
            else:
                self.flops += flops
                spot.flops += flops
        if kind.beyond is not None:
            flops = kind.beyond(*args, **kwargs)
            self._left_out(spot, (self._inside or [kind.name])[0], flops)
        if kind.fresh:
            made = out if isinstance(out, (tuple, list)) else (out,)
            spot.nbytes += sum(_allocated(one) for one in made if isinstance(one, torch.Tensor))
            spot.makes |= kind.makes

    def _left_out(self, spot: LineRecord, name: str, flops: int) -> None:
        spot.beyond += flops
        self.beyond[name] += flops


def _allocated(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's values, and of the indices of a sparse one."""
    return sum(map(nbytes_of, plain_parts(tensor)))

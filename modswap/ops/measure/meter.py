"""Count the operations and the memory of a pass, on tensors with or without data."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from modswap.live_values import live_tensors
from modswap.nn.routed_attention import chunks
from modswap.ops.run.quick_outputs import quick_output

_FLASH = "_scaled_dot_product_flash_attention_for_cpu"  # private: it may be missing one day


def _sdpa(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


# modswap's own operators hide their steps; they run step by step here, to count their workspace
_OPENED: Mapping[str, Callable[..., Any]] = {
    "modswap::routed_attention": chunks.forward,
    "modswap::routed_attention_backward": chunks.backward,
}


class Meter(TorchDispatchMode):
    """Count operations, and the storages that live at the same time, each once.

    Neither the workspace of kernels nor the rounding of the allocator is counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.flops = 0
        self.live = 0
        self.peak = 0
        self.weights = 0  # bytes of the weights, as a pass holds them
        self.saved: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._held: set[int] = set()
        self._kinds: set[str] = set()
        # by operator; torch does not count its own CPU attention
        self._formulas = {**flop_registry, getattr(torch.ops.aten, _FLASH, None): _sdpa}

    def hold(self, tensors: Iterable[torch.Tensor], *, saved: bool = True) -> None:
        """Count tensors that were there before, as activations if autograd keeps and `saved`."""
        for tensor in tensors:
            # a table that a module makes on the CPU during a pass without data does not count
            self._kinds.add(tensor.untyped_storage().device.type)
            self._count(tensor)
            if not saved:
                self._held.add(id(tensor.untyped_storage()))

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Count the tensors that autograd keeps for the backward pass in a block."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in self._held:
            self.saved[id(storage)] = storage.nbytes()
        return tensor.detach()  # a tensor that keeps itself would never be freed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a query, such as for the device, which has no parts
            return func(*args, **kwargs)
        opened = _OPENED.get(func.name())
        if opened is not None:
            *tensors, heads, scale = args
            with self:
                return opened(*tensors, heads=heads, scale=scale)
        formula = self._formulas.get(func.overloadpacket)
        out = quick_output(func, args)
        if out is None and formula is None:
            with self:
                # an operator that torch itself decomposes is counted by its parts
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs) if out is None else out
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        for tensor in live_tensors(out):
            self._count(tensor)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.device.type not in self._kinds:
            return
        key, nbytes = id(storage), storage.nbytes()
        if key not in self._sizes:
            weakref.finalize(storage, self._freed, key).atexit = False
        self.live += nbytes - self._sizes.get(key, 0)
        self._sizes[key] = nbytes
        self.peak = max(self.peak, self.live)

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


class LikeCpu(TorchFunctionMode):
    """Make attention on meta tensors take the kernel that it would take on the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            output = _flash(*args, **kwargs)
            return func(*args, **kwargs) if output is None else output
        if func is F.multi_head_attention_forward:
            with self:
                return _open_heads()(*args, **kwargs)
        return func(*args, **kwargs)


@lru_cache(maxsize=1)
def _open_heads() -> Callable[..., Any]:
    """Return torch's multi-head attention without its check for modes, which hides its steps."""
    function = F.multi_head_attention_forward
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    opened = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


def _flash(  # noqa: PLR0913, PLR0917 - torch's own signature
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002 - torch's signature
) -> Any:
    """Return the outputs of the CPU's kernel that keeps no attention weights, on meta tensors.

    None where the CPU would take another kernel.
    """
    flash, mask = getattr(torch.ops.aten, _FLASH, None), attn_mask
    if flash is None or dropout_p or enable_gqa or not _fit_flash(query, key, value, mask=mask):
        return None
    if mask is not None and mask.dtype is torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))
    return flash(query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale)[0]


def _fits_mask(mask: torch.Tensor | None) -> bool:
    return mask is None or (mask.ndim in {2, 4} and not mask.requires_grad)


def _fit_flash(*tensors: torch.Tensor, mask: torch.Tensor | None) -> bool:
    sizes = {tensor.shape[-1] for tensor in tensors}
    if not _fits_mask(mask) or tensors[0].dtype is torch.float16 or len(sizes) > 1:
        return False
    return all(t.device.type == "meta" and t.ndim == 4 and t.stride(-1) == 1 for t in tensors)

"""Find readers of an input after a new module wrote into it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from modswap.live_values import live_tensors, map_tensors
from modswap.nn.attention_backend import plain_attention
from modswap.ops.examine.bench import Bench
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.inputs import make
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import meta_values

_TORCH_SAYS = "modified by an inplace operation"  # of a tensor that backward needs


def harm_of_write(bench: Bench, path: str) -> str:
    """Return the harm of a write of the new module of a site into its input; empty for none.

    Raises:
        Exception: If the model does not run without data.
    """
    new = next(module for site, _, module in bench.sites if site == path)
    try:
        return _run(bench, new, training=True)
    except Exception:  # noqa: BLE001 - batch norm, for one, refuses a single value in training
        return _run(bench, new, training=False)


def _run(bench: Bench, new: nn.Module, *, training: bool) -> str:
    with _prepared(bench, training=training) as (call, given):
        readers = _Readers()
        with readers, readers.behind(new):
            call()
        if _meet(readers.watched, _spans(given)):
            return "it is the model's own input, which the caller may use again"
        if readers.found:
            return f"the model reads it again ({readers.found})"
        wanted = [tensor for tensor in live_tensors(call()) if tensor.requires_grad]
        try:
            torch.autograd.backward(wanted, [torch.ones_like(tensor) for tensor in wanted])
        except RuntimeError as error:
            if _TORCH_SAYS not in str(error):
                raise
            return "the layer before it needs it to go backward, and training raises"
    return ""


@contextmanager
def _prepared(
    bench: Bench, *, training: bool
) -> Iterator[tuple[Callable[[], Any], tuple[Any, Any]]]:
    """Yield a call of the model on tensors without data, and its inputs."""
    model, case = bench.model, bench.prepared.cases[0]
    dtype = pass_dtype(model, case)
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    with (
        untouched(model, training=training, unreal=True),
        plain_attention(),
        meta_values(model, dtype) as (named, moved),
        torch.enable_grad(),
    ):
        args, kwargs = (moved(make(v, None, dtype)) for v in (case.call.args, case.call.kwargs))
        for name, tensor in named.items():
            tensor.requires_grad_(tensor.is_floating_point() and name in trained)
        call = partial(torch.func.functional_call, model, named, tuple(args), kwargs)
        yield call, (args, kwargs)


class _Readers(TorchDispatchMode):
    """Give a module copies of its inputs, and note the first reader of the inputs after its end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of torch
        self.found = ""
        self._kept: list[Any] = []  # so that no later tensor gets their memory
        self._given: list[_Span] = []
        self.watched: list[_Span] = []  # of the module's inputs

    @contextmanager
    def behind(self, module: nn.Module) -> Iterator[None]:
        """Watch the inputs of a module within a block, from the end of the module's run on."""
        with (
            module.register_forward_pre_hook(self._before, with_kwargs=True),
            module.register_forward_hook(self._after),
        ):
            yield

    def _before(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        self._kept.append((args, kwargs))
        self._given = _spans((args, kwargs))
        copies: dict[int, torch.Tensor] = {}  # a tensor that is passed twice stays the same tensor

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            return copies.setdefault(id(tensor), tensor.clone())

        return map_tensors(copy, (args, kwargs))

    def _after(self, *_: Any) -> None:
        self.watched += self._given

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and note it if it reads a watched tensor."""
        reads = self.watched and not self.found and not getattr(func, "is_view", False)
        if reads and _meet(self.watched, _spans((args, kwargs))):
            self.found = str(func).removeprefix("aten.").partition(".")[0].rstrip("_")
        return func(*args, **(kwargs or {}))


class _Span(NamedTuple):
    """Bytes of a storage that a tensor spans."""

    storage: int
    start: int
    end: int


def _spans(value: Any) -> list[_Span]:
    """Return the bytes that all tensors in a value span."""
    return [_span(tensor) for tensor in live_tensors(value)]


def _span(tensor: torch.Tensor) -> _Span:
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001 - its only name without data
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    length = 1 + sum((side - 1) * step for side, step in steps) if tensor.numel() else 0
    size, start = tensor.element_size(), int(tensor.storage_offset())
    return _Span(storage, start * size, (start + length) * size)


def _meet(some: Sequence[_Span], others: Sequence[_Span]) -> bool:
    """Return whether a span shares bytes with any of some other spans."""
    return any(
        one.storage == other.storage and one.start < other.end and other.start < one.end
        for one, other in product(some, others)
    )

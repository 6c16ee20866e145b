"""Run a module on the shapes of its site's inputs, without data."""

from ast import literal_eval
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from modswap.core.seen.site import Call
from modswap.core.seen.values import Plain, TensorInfo, Value, tensors
from modswap.live_values import changed_tensors, describe
from modswap.nn.attention_backend import plain_attention
from modswap.nn.fake_tensors import fake_mode, made_fake, needs_values
from modswap.nn.fit.further_inputs import cache_fix
from modswap.seeds import kept_random_state


class RefusedError(Exception):
    """A module raised in a trial, or an input cannot be made; `fix` is empty if unknown."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return self.what


def outputs_on(module: nn.Module, call: Call, dtype: str) -> Value:
    """Return the outputs of a module in evaluation mode for a call of its site.

    Its buffers may change. It runs in the precision of the recorded call, which for weights in half
    precision is float32, and in `dtype` where the call has no floating tensor.

    Raises:
        RefusedError: If it raises, or an input cannot be made.
    """
    given = [getattr(torch, t.dtype) for value in call.inputs for t in tensors(value)]
    seen: torch.dtype = next((d for d in given if d.is_floating_point), getattr(torch, dtype))
    floating = seen if seen.is_floating_point else torch.get_default_dtype()
    # the trial runs on the CPU, and its outputs are noted on the site's own device
    device = next((t.device for value in call.inputs for t in tensors(value)), "cpu")
    try:
        with torch.no_grad(), kept_random_state():
            try:
                return describe(_on_fakes(module, call, floating), device)
            except Exception as error:
                if not needs_values(error):
                    raise
                # its shapes depend on values, so it runs on real tensors
                inputs, named = _inputs(call)
                return describe(module.to(floating)(*inputs, **named), device)
    except RefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - a module of the user's may raise anything
        text = " ".join(str(error).split())[:200]
        raise RefusedError(f"it raises {type(error).__name__}: {text}") from None


def _on_fakes(module: nn.Module, call: Call, dtype: torch.dtype) -> Any:
    with plain_attention(), fake_mode() as mode:

        def cast(tensor: torch.Tensor) -> torch.Tensor:
            fake = made_fake(mode, tensor)
            return fake.to(dtype) if fake.is_floating_point() else fake

        tensors = changed_tensors(module, cast)
        inputs, named = _inputs(call)
        return torch.func.functional_call(module, tensors, inputs, named)


def random_inputs(call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return live inputs like those of a call, with random numbers in float32."""

    def drawn(info: TensorInfo) -> torch.Tensor:
        made = _zeros(info)
        return torch.randn(info.shape) if made.is_floating_point() else made

    return _inputs(call, drawn)


def _zeros(info: TensorInfo) -> torch.Tensor:
    return torch.zeros(info.shape, dtype=getattr(torch, info.dtype))


def _inputs(
    call: Call, make: Callable[[TensorInfo], torch.Tensor] = _zeros
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return live inputs like those of a call; tensors that were the same object still are."""
    made = [make(info) for value in call.inputs for info in tensors(value)]
    rest = iter([made[first] for first in call.firsts])
    args = tuple(_made(value, rest) for value in call.args)
    return args, {name: _made(value, rest) for name, value in call.kwargs}


def _made(value: Value, rest: Iterator[torch.Tensor]) -> Any:
    """Return a live value like a recorded value, with the next of some tensors in it."""
    if isinstance(value, TensorInfo):
        return next(rest)
    if isinstance(value, Plain):
        try:
            return literal_eval(value.text)
        except (ValueError, SyntaxError):
            what = f"an input of class {value.kind} cannot be made"
            raise RefusedError(what, cache_fix(value)) from None
    items = [_made(item, rest) for item in value.items]
    if value.kind in {"tuple", "Size"}:
        return tuple(items)
    if value.kind == "list":
        return items
    if value.kind in {"dict", "OrderedDict"}:
        return dict(zip(value.names, items, strict=True))
    raise RefusedError(f"an input of class {value.kind} cannot be made", cache_fix(value))

"""Trying a module on the shapes that its site was given, without data."""

import logging
from ast import literal_eval
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from modswap.core.seen.site import Call
from modswap.core.seen.values import Group, Plain, TensorInfo, Value, tensors
from modswap.nn.attention_backend import plain_attention
from modswap.nn.fit.inputs import cache_fix
from modswap.seeds import kept_random_state

VALUES_NEEDED = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
    NotImplementedError,
)


class RefusedError(Exception):
    """A module raised when it was tried, or its inputs cannot be made up.

    Args:
        what: What was refused.
        fix: What the user can do, where that is known.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return self.what


def give(module: nn.Module, call: Call, dtype: str) -> Value:
    """Return what a module gives when it is called as a site was; the module may keep traces.

    Args:
        module: The module, in evaluation mode.
        call: A call of the site.
        dtype: Floating dtype that the module's tensors are taken in.

    Raises:
        RefusedError: If it raises, or an input of the call is an object that cannot be made up.
    """
    seen: torch.dtype = getattr(torch, dtype)
    floating = seen if seen.is_floating_point else torch.get_default_dtype()
    # tried on the CPU, told as if on the site's own device
    device = next((t.device for value in call.inputs for t in tensors(value)), "cpu")
    try:
        with torch.no_grad(), kept_random_state():
            try:
                return _described(_on_fakes(module, call, floating), device)
            except VALUES_NEEDED:
                # its shapes depend on values: only a real pass can tell them
                inputs, named = _inputs(call)
                return _described(module.to(floating)(*inputs, **named), device)
    except RefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - a module of the user's may raise anything
        text = " ".join(str(error).split())[:200]
        raise RefusedError(f"it raises {type(error).__name__}: {text}") from None


def _on_fakes(module: nn.Module, call: Call, dtype: torch.dtype) -> Any:
    with _quiet(), plain_attention(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tensors: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
        tensors.update(module.named_buffers(remove_duplicate=False))
        fakes = {name: mode.from_tensor(tensor) for name, tensor in tensors.items()}
        cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in fakes.items()}
        inputs, named = _inputs(call)
        return torch.func.functional_call(module, cast, inputs, named)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback for every error that is caught here."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _inputs(call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return live inputs of the kinds that were seen; tensors that were one object are one."""
    infos = [info for value in call.inputs for info in tensors(value)]
    made = [torch.zeros(info.shape, dtype=getattr(torch, info.dtype)) for info in infos]
    rest = iter([made[first] for first in call.firsts])
    args = tuple(_made(value, rest) for value in call.args)
    return args, {name: _made(value, rest) for name, value in call.kwargs}


def _made(value: Value, rest: Iterator[torch.Tensor]) -> Any:
    """Return a live value of the kind that was seen; its tensors are the next of some."""
    if isinstance(value, TensorInfo):
        return next(rest)
    if isinstance(value, Plain):
        try:
            return literal_eval(value.text)
        except (ValueError, SyntaxError):
            what = f"an input of class {value.kind} cannot be made up"
            raise RefusedError(what, cache_fix(value)) from None
    items = [_made(item, rest) for item in value.items]
    if value.kind in {"tuple", "Size"}:
        return tuple(items)
    if value.kind == "list":
        return items
    if value.kind in {"dict", "OrderedDict"}:
        return dict(zip(value.names, items, strict=True))
    raise RefusedError(f"an input of class {value.kind} cannot be made up", cache_fix(value))


def _described(value: Any, device: str) -> Value:
    """Return what a live value is."""
    kind = type(value).__name__
    if isinstance(value, torch.Tensor):
        return TensorInfo(tuple(value.shape), str(value.dtype).removeprefix("torch."), device)
    if isinstance(value, (tuple, list)):
        items = tuple(_described(item, device) for item in value)
        return Group(kind, tuple(map(str, range(len(items)))), items)
    if isinstance(value, Mapping):
        items = tuple(_described(item, device) for item in value.values())
        return Group(kind, tuple(map(str, value)), items)
    plain = value is None or isinstance(value, (bool, int, float, str))
    return Plain(kind, repr(value) if plain else f"<{kind}>")

"""Read the sizes, parameters and plain attributes of a module that was read as data."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from modswap.core.decided.optimizer import Parameter
from modswap.core.seen.site import Layout
from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.values import (
    children,
    class_of,
    is_module,
    own_call,
    parameters_of,
    table,
    tensor_parts,
)
from modswap.io.pickled.walk import is_plain, named_modules

# layers of torch, with their attributes for the channels of input and output, and their layout
_SIZES: Mapping[str, tuple[str, str, Layout | None]] = {
    "Conv2d": ("in_channels", "out_channels", "NCHW"),
    "BatchNorm2d": ("num_features", "num_features", "NCHW"),
    "GroupNorm": ("num_channels", "num_channels", "NCHW"),
    "InstanceNorm2d": ("num_features", "num_features", "NCHW"),
    "Linear": ("in_features", "out_features", None),
    "LayerNorm": ("normalized_shape", "normalized_shape", None),
}
# layers whose output has the shape and layout of the input
_SAME = {
    "ReLU", "ReLU6", "GELU", "SiLU", "Sigmoid", "Tanh", "LeakyReLU", "ELU", "Hardswish",
    "Hardsigmoid", "Mish", "Dropout", "Dropout2d", "Identity", "Softmax",
}  # fmt: skip
_TABLES = {
    "training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set",
    "_is_full_backward_hook",
}  # fmt: skip
# layers of torch that get their shapes when they first run, and the hooks that wait for that
_LAZY = re.compile(r"torch\.nn\.modules\.\w+\.Lazy\w+")
_LAZY_HOOKS = {
    "_forward_pre_hooks": "_infer_parameters",
    "_load_state_dict_pre_hooks": "_lazy_load_hook",
}
_UNSHAPED = re.compile(r"torch\.nn\.parameter\.Uninitialized(Parameter|Buffer)")
_WRAPPED = "torch.nn.modules.module._WrappedHook"
_STATISTICS = {"running_mean", "running_var"}  # of a batch norm
_FLOATING = {"Double", "Float", "Half", "BFloat16", "ComplexDouble", "ComplexFloat"}
GETATTR = "builtins.getattr"
RUN_ONCE = "run the model once, and save it again"


class Sizes(NamedTuple):
    """The sizes of a module's input and output, from its layers of torch."""

    channels: int  # of the input map, or features of the input tokens
    gives: int  # channels or features of the output
    layout: Layout | None  # None where it is unknown
    keeps: bool = True  # height and width stay the same


def sizes_of(module: Instance) -> Sizes | None:
    """Return the sizes of a module's input and output; None where they are unknown.

    They are known for layers of torch, and for rows of such layers. Any other class may use its
    layers in any way.
    """
    own = class_of(module)
    name = own.attribute
    if not own.module.startswith("torch.nn.") or own != module.what:
        return None
    if name == "Sequential":
        return _in_a_row(list(children(module).values()))
    if name not in _SIZES:
        return None
    before, after, layout = _SIZES[name]
    taken, given = _number(module.state.get(before)), _number(module.state.get(after))
    if taken is None or given is None:
        return None
    return Sizes(taken, given, layout, name != "Conv2d" or _keeps(module.state))


def _in_a_row(layers: list[Instance]) -> Sizes | None:
    same = [m.what.module.startswith("torch.nn.") and m.what.attribute in _SAME for m in layers]
    sizes = [sizes_of(layer) for layer, kept in zip(layers, same, strict=True) if not kept]
    found = [size for size in sizes if size is not None]
    if not found or len(found) < len(sizes):
        return None
    layout = next((size.layout for size in found if size.layout), None)
    return Sizes(found[0].channels, found[-1].gives, layout, all(size.keeps for size in found))


def _number(value: Any) -> int | None:
    """Return a size, or the size in a tuple of one; None for other values."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return value if type(value) is int and value > 0 else None


def _keeps(state: Mapping[str, Any]) -> bool:
    """Return whether a convolution keeps height and width."""
    padding = state.get("padding")
    if state.get("stride") != (1, 1):
        return False
    if padding == "same":
        return True
    sizes: list[Any] = [state.get("kernel_size"), state.get("dilation"), padding]
    if not all(isinstance(size, tuple) and list(map(type, size)) == [int, int] for size in sizes):
        return False
    return all(2 * p == d * (k - 1) for k, d, p in zip(*sizes, strict=True))


def host_attributes(module: Instance) -> dict[str, Any]:
    """Return the plain attributes of a module, among them those that a host framework set.

    The attributes that its own class set are included: without code the two look alike.
    """
    return {
        name: value
        for name, value in module.state.items()
        if isinstance(name, str)
        and name not in _TABLES
        and not name.endswith("_hooks")
        and not name.startswith("_")
        and is_plain(value)
    }


def named_parameters(model: Instance) -> Iterator[Parameter]:
    """Yield a model's parameters as torch's `named_parameters` does, shared ones once."""
    seen: set[int] = set()
    for path, module in named_modules(model):
        for name, value in parameters_of(module).items():
            if id(value) not in seen:
                seen.add(id(value))
                yield _parameter(f"{path}.{name}" if path else name, value)


def likely_parameters(weights: Mapping[Any, Any], prefix: str) -> Iterator[Parameter]:
    """Yield the tensors of a state dict that seem to be parameters, shared ones once, in order.

    Their names are without the prefix. Tensors of whole numbers are none, nor are the statistics
    of a batch norm.
    """
    seen: set[Any] = set()
    for name, value in weights.items():
        parts = tensor_parts(value)
        leaf = str(name).rpartition(".")[2]
        inner = own_call(value)
        if parts is None or inner is None or leaf in _STATISTICS:
            continue
        if parts.stored.dtype not in _FLOATING:
            continue
        key: Any = (parts.stored.key, inner.args[1:4])
        try:
            known = key in seen
        except TypeError:  # places of a damaged file, which no other tensor has
            key, known = id(value), False
        if not known:
            seen.add(key)
            yield _parameter(
                str(name).removeprefix(prefix), Instance("called", value.what, (inner,))
            )


def _parameter(name: str, value: Instance) -> Parameter:
    inner = value.args[0] if value.args else None
    shape = inner.args[2] if isinstance(inner, Instance) and len(inner.args) > 2 else ()
    trainable = len(value.args) < 2 or bool(value.args[1])
    return Parameter(name, shape if isinstance(shape, tuple) else (-1,), trainable)


def dtypes_of(module: Instance) -> Iterator[str]:
    """Yield the dtypes of a module's parameters, `Half` and the like, its own first."""
    for _, holder in named_modules(module):
        known = filter(None, map(tensor_parts, parameters_of(holder).values()))
        yield from (tensor.stored.dtype for tensor in known)


def is_lazy_hook(hook: Any, module: Instance, hooks: str) -> bool:
    """Return whether a hook is one that torch gives its lazy layers: a method of the layer itself.

    `hooks` is the name of the module's table of hooks.
    """
    bound = isinstance(hook, Instance) and str(hook.what) == GETATTR
    if not bound or not _LAZY.fullmatch(str(module.what)) or len(hook.args) != 2:
        return False
    return hook.args[0] is module and hook.args[1] == _LAZY_HOOKS.get(hooks)


def lazy_hooks(made: Iterable[Instance]) -> set[int]:
    """Return the ids of the hooks that torch gives its lazy layers."""
    found = set()
    for module in filter(is_module, made):
        for name in _LAZY_HOOKS:
            held = map(unwrapped_hook, table(module, name).values())
            found |= {id(hook) for hook in held if is_lazy_hook(hook, module, name)}
    return found


def unwrapped_hook(hook: Any) -> Any:
    """Return a hook without torch's wrapper around it; None for a wrapper of nothing."""
    if isinstance(hook, Instance) and str(hook.what) == _WRAPPED:
        return hook.state.get("hook") if isinstance(hook.state, dict) else None
    return hook


def unshaped(made: Iterable[Instance]) -> str:
    """Return in words which layers never got a shape; empty if all did."""
    layers = sorted({one.what.attribute for one in made if is_module(one) and _waits(one)})
    return f"its {', '.join(layers)} never got a shape" if layers else ""


def _waits(module: Instance) -> bool:
    held = (*table(module, "_parameters").values(), *table(module, "_buffers").values())
    return any(isinstance(one, Instance) and is_unshaped(one.what) for one in held)


def is_unshaped(name: Name) -> bool:
    """Return whether a name is the class of tensors that never got a shape."""
    return _UNSHAPED.fullmatch(str(name)) is not None

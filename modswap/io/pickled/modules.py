"""What a module read as data says of itself: its sizes, its parameters, what its host put on it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from modswap.core.decided.optimizer import Parameter
from modswap.core.seen.site import Layout
from modswap.io.pickled.data import Instance
from modswap.io.pickled.outline import children, parameters_of, tensor_parts

# layers of torch by what they call their channels, on the way in and on the way out
_MAPS = {
    "Conv2d": ("in_channels", "out_channels"),
    "BatchNorm2d": ("num_features", "num_features"),
    "GroupNorm": ("num_channels", "num_channels"),
    "InstanceNorm2d": ("num_features", "num_features"),
}
_TOKENS = {"Linear": ("in_features", "out_features"), "LayerNorm": ("normalized_shape",) * 2}
# layers that give what they are given, in the same layout
_SAME = {
    "ReLU", "ReLU6", "GELU", "SiLU", "Sigmoid", "Tanh", "LeakyReLU", "ELU", "Hardswish",
    "Hardsigmoid", "Mish", "Dropout", "Dropout2d", "Identity", "Softmax",
}  # fmt: skip
_TABLES = {
    "training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set",
    "_is_full_backward_hook",
}  # fmt: skip


class Sizes(NamedTuple):
    """What a module's own layers tell of the tensors that it takes and gives.

    Args:
        channels: Channels of the map, or features of the tokens, that it takes.
        gives: Those that it gives.
        layout: How they lie; None where that cannot be told.
        keeps: Whether height and width stay as they are.
    """

    channels: int
    gives: int
    layout: Layout | None
    keeps: bool = True


def sizes_of(module: Instance) -> Sizes | None:
    """Return what a module's own layers tell of its sizes.

    Only torch's own layers are taken at their word, and rows of them: what a class of somebody
    else's does with its layers only its code knows.
    """
    name = module.what.attribute
    if not module.what.module.startswith("torch.nn."):
        return None
    if name == "Sequential":
        return _in_a_row(list(children(module).values()))
    for table, layout in ((_MAPS, "NCHW"), (_TOKENS, None)):
        if name in table:
            taken, given = (_number(module.state.get(key)) for key in table[name])
            keeps = name != "Conv2d" or _keeps(module.state)
            return Sizes(taken, given, layout, keeps) if taken and given else None  # type: ignore[arg-type]
    return None


def _in_a_row(layers: list[Instance]) -> Sizes | None:
    found: list[Sizes] = []
    for layer in layers:
        known = layer.what.module.startswith("torch.nn.")
        if known and layer.what.attribute in _SAME:
            continue
        sizes = sizes_of(layer)
        if sizes is None:
            return None
        found.append(sizes)
    if not found:
        return None
    layout = next((sizes.layout for sizes in found if sizes.layout), None)
    keeps = all(sizes.keeps for sizes in found)
    return Sizes(found[0].channels, found[-1].gives, layout, keeps)


def _number(value: Any) -> int | None:
    """Return a size, or the one that a tuple of one holds."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return value if type(value) is int and value > 0 else None


def _keeps(state: Mapping[str, Any]) -> bool:
    """Return whether a convolution keeps height and width."""
    stride, padding = state.get("stride"), state.get("padding")
    if stride != (1, 1):
        return False
    if padding == "same":
        return True
    kernel, dilation = state.get("kernel_size"), state.get("dilation")
    if not all(isinstance(v, tuple) and len(v) == 2 for v in (kernel, dilation, padding)):
        return False
    pairs = zip(kernel, dilation, padding, strict=True)  # type: ignore[arg-type]
    return all(2 * p == d * (k - 1) for k, d, p in pairs)


def host_attributes(module: Instance) -> dict[str, Any]:
    """Return the plain attributes of a module, among them what a host framework put on it.

    Which of them its own class set cannot be told without its code: all are taken.
    """
    return {
        name: value
        for name, value in module.state.items()
        if isinstance(name, str)
        and name not in _TABLES
        and not name.endswith("_hooks")
        and not name.startswith("_")
        and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def named_parameters(model: Instance) -> Iterator[Parameter]:
    """Yield a model's parameters as torch's `named_parameters` does, shared ones once."""
    seen: set[int] = set()
    stack = [("", model)]
    while stack:
        prefix, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        for name, value in parameters_of(module).items():
            if id(value) not in seen:
                seen.add(id(value))
                yield _parameter(f"{prefix}{name}", value)
        below = [(f"{prefix}{name}.", child) for name, child in children(module).items()]
        stack += reversed(below)


def _parameter(name: str, value: Instance) -> Parameter:
    inner = value.args[0] if value.args else None
    shape = inner.args[2] if isinstance(inner, Instance) and len(inner.args) > 2 else ()
    trainable = len(value.args) < 2 or bool(value.args[1])
    return Parameter(name, shape if isinstance(shape, tuple) else (-1,), trainable)


def dtypes_of(module: Instance) -> Iterator[str]:
    """Yield the storage kinds of a module's parameters, `Half` and the like, its own first."""
    known = filter(None, map(tensor_parts, parameters_of(module).values()))
    yield from (parts.stored.kind.attribute.removesuffix("Storage") for parts in known)
    for child in children(module).values():
        yield from dtypes_of(child)

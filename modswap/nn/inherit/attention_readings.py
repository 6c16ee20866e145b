"""Find self-attention in a module: by its class, or by the structure of its layers."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any, NamedTuple

from torch import nn

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.inherit.attention_form import ORDERS, ROLES, Reading, Role, RowsOf
from modswap.nn.inherit.folding import folds_of
from modswap.nn.self_attention import SelfAttention

MAX_LAYERS = 8  # linear layers of a module that may be attention
MAX_HEADS = 64
_NAMES = (  # of queries, keys and values
    re.compile(r"(^|_|\.)(w?q|query|queries|to_q|q_?proj|q_?lin)([_.]|$|lin|proj|uery)", re.I),
    re.compile(r"(^|_|\.)(w?k|key|keys|to_k|k_?proj|k_?lin)([_.]|$|lin|proj|ey)", re.I),
    re.compile(r"(^|_|\.)(w?v|value|values|to_v|v_?proj|v_?lin)([_.]|$|lin|proj|alue)", re.I),
)


class LinearMap(NamedTuple):
    """A linear map."""

    name: str
    given: int  # channels
    made: int  # channels
    turned: bool  # whether its weight is (in, out)


Layers = Sequence[LinearMap]


def readings(module: nn.Module, channels: int) -> Iterator[Reading]:
    """Yield the ways in which a module may be self-attention over `channels`, likely ones first.

    A reading that is not `certain` has to be compared with the module by a run.
    """
    known = _of_class(module)
    if known is not None:
        yield known
        return
    layers = _linear_layers(module)
    three = len(layers) == 1 and layers[0].made % 3 == 0
    folds, (local, side) = folds_of(module), _local_layer(module)
    if not (three or 1 < len(layers) <= MAX_LAYERS):
        return
    found = itertools.chain(_fused(layers, channels), _split(layers, channels))
    ranked = [pair for parts, width in found for pair in _ranked(module, parts, width)]
    for _, reading in sorted(ranked, key=lambda pair: pair[0]):
        plain = replace(reading, folds=folds)
        yield from (replace(plain, local=local, side=side), plain) if local else (plain,)


def _local_layer(module: nn.Module) -> tuple[str, int]:
    """Return the only depthwise convolution that keeps the size of its map: name and side."""
    found = [
        (name, layer.kernel_size[0])
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d) and _is_local(layer)
    ]
    return found[0] if len(found) == 1 else ("", 0)


def _is_local(layer: nn.Conv2d) -> bool:
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    same = tuple(layer.padding) == tuple(side // 2 for side in layer.kernel_size)
    return depthwise and same and layer.kernel_size[0] == layer.kernel_size[1]


def _ranked(
    module: nn.Module, parts: Mapping[Role, RowsOf], width: int
) -> Iterator[tuple[int, Reading]]:
    """Yield the readings of some parts with each number of heads and scale, and their rarity."""
    biased = _with_biases(module, parts)
    keys = biased["q"].sizes[0] if biased["q"].sizes else width
    for rarity, heads in enumerate(n for n in _heads(module, width) if keys % n == 0):
        window, table, shift = _positions(module, heads)
        first = Reading(heads, 1.0, biased, table, window, shift)
        for rare, scale in enumerate(_scales(module, keys, heads)):
            yield rarity + 2 * rare, replace(first, scale=scale)


def _of_class(module: nn.Module) -> Reading | None:
    """Return the reading of a class that is known."""
    if isinstance(module, nn.MultiheadAttention):
        return _of_torch(module)
    if isinstance(module, BiLevelRoutingAttention):
        return _of_routing(module)
    if isinstance(module, SelfAttention):
        return _of_prefixed(module)
    return None


def _of_torch(module: nn.MultiheadAttention) -> Reading | None:
    if {module.kdim, module.vdim} != {module.embed_dim}:
        return None
    known = dict(module.named_parameters())
    bias = "in_proj_bias" if "in_proj_bias" in known else ""
    parts: dict[Role, RowsOf] = {
        role: RowsOf("in_proj_weight", bias, "blocks", index, 3)
        for index, role in enumerate(ROLES[:3])
    }
    parts["o"] = RowsOf("out_proj.weight", "out_proj.bias" if bias else "")
    notes = ("its added keys of zeros are left out",) if module.add_zero_attn else ()
    return Reading(module.num_heads, module.head_dim**-0.5, parts, certain=True, notes=notes)


def _of_routing(module: BiLevelRoutingAttention) -> Reading:
    name = "qkv.qkv" if module.variant == "original" else "qkv_linear"
    out = "wo" if module.variant == "original" else "output_linear"
    sizes = (module.qk_dim, module.qk_dim, module.dim)
    parts: dict[Role, RowsOf] = {
        role: RowsOf(f"{name}.weight", f"{name}.bias", index=index, sizes=sizes)
        for index, role in enumerate(ROLES[:3])
    }
    if f"{out}.weight" in module.state_dict():
        parts["o"] = RowsOf(f"{out}.weight", f"{out}.bias")
    local, side = _local_layer(module)
    return Reading(module.num_heads, module.scale, parts, certain=True, local=local, side=side)


def _of_prefixed(module: SelfAttention) -> Reading:
    name = f"{module.prefix}_multi_head_attention"
    inner: Any = module.get_submodule(name)
    layers = dict(zip(ROLES, ("query", "key", "value", "output"), strict=True))
    parts = {
        role: RowsOf(f"{name}.{layer}.weight", f"{name}.{layer}.bias")
        for role, layer in layers.items()
    }
    width = inner.query.out_features // inner.num_heads
    notes = ("its residual and its layer norm are left out",)
    return Reading(
        inner.num_heads, width**-0.5, parts, causal=inner.mask, certain=True, notes=notes
    )


def _linear_layers(module: nn.Module) -> list[LinearMap]:
    """Return linear layers and 1x1 convolutions with their channels."""
    named = ((name, _sizes(layer)) for name, layer in module.named_modules())
    return [LinearMap(name, *sizes) for name, sizes in named if sizes is not None]


def _sizes(layer: nn.Module) -> tuple[int, int, bool] | None:
    """Return the channels in and out of a linear map, and whether its weight is (in, out)."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, False
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        plain = layer.groups == 1 and {*layer.kernel_size, *layer.stride} == {1}
        return (layer.in_channels, layer.out_channels, False) if plain else None
    weight = getattr(layer, "weight", None)
    if type(layer).__name__ == "Conv1D" and weight is not None and weight.ndim == 2:
        return weight.shape[0], weight.shape[1], True  # of transformers
    return None


def _fused(layers: Layers, channels: int) -> Iterator[tuple[dict[Role, RowsOf], int]]:
    """Yield the parts where queries, keys and values come from one layer, or keys and values."""
    given = [layer for layer in layers if layer.given == channels]
    for layer in given:
        if layer.made % 3 == 0:
            yield from _joined(layers, layer, channels, (layer.made // 3,) * 3)
    for both, query in itertools.permutations(given, 2):
        if both.made == 2 * query.made:
            yield from _paired(layers, both, query, channels)
    for layer, other in itertools.permutations(layers, 2):
        # the output's layer shows the channels of the values
        keys, odd = divmod(layer.made - other.given, 2)
        if layer in given and other.made == channels and keys > 0 and not odd:
            yield from _joined(layers, layer, channels, (keys, keys, other.given))


def _joined(
    layers: Layers, layer: LinearMap, channels: int, sizes: tuple[int, int, int]
) -> Iterator[tuple[dict[Role, RowsOf], int]]:
    """Yield the parts where queries, keys and values of some sizes come from one layer."""
    alike = len({*sizes}) == 1
    for orders in _orders(layer, 3, () if alike else sizes):
        parts = dict(zip(ROLES[:3], orders, strict=True))
        yield from _with_output(layers, [layer], parts, channels, sizes[2])


def _paired(
    layers: Layers, both: LinearMap, query: LinearMap, channels: int
) -> Iterator[tuple[dict[Role, RowsOf], int]]:
    """Yield the parts where keys and values come from a layer, and queries from another."""
    for k, v in _orders(both, 2):
        parts: dict[Role, RowsOf] = {"q": _whole(query), "k": k, "v": v}
        yield from _with_output(layers, [both, query], parts, channels, query.made)


def _orders(
    layer: LinearMap, count: int, sizes: tuple[int, ...] = ()
) -> Iterator[tuple[RowsOf, ...]]:
    weight = f"{layer.name}.weight"
    for order in ORDERS:
        yield tuple(
            RowsOf(weight, "", order, index, count, layer.turned, sizes) for index in range(count)
        )


def _whole(layer: LinearMap) -> RowsOf:
    return RowsOf(f"{layer.name}.weight", transposed=layer.turned)


def _split(layers: Layers, channels: int) -> Iterator[tuple[dict[Role, RowsOf], int]]:
    """Yield the parts where queries, keys and values come from layers of their own."""
    for width in dict.fromkeys(layer.made for layer in layers if layer.given == channels):
        alike = [layer for layer in layers if (layer.given, layer.made) == (channels, width)]
        for chosen in dict.fromkeys([*_guessed(alike), *itertools.permutations(alike, 3)]):
            parts = dict(zip(ROLES[:3], map(_whole, chosen), strict=True))
            yield from _with_output(layers, chosen, parts, channels, width)


def _guessed(layers: Sequence[LinearMap]) -> list[tuple[LinearMap, ...]]:
    """Return the layers of queries, keys and values as their names suggest, or nothing."""
    found = [[layer for layer in layers if pattern.search(layer.name)] for pattern in _NAMES]
    chosen = tuple(fits[0] for fits in found if fits)
    return [chosen] if len({*chosen}) == 3 else []


def _with_output(
    layers: Layers,
    used: Sequence[LinearMap],
    parts: Mapping[Role, RowsOf],
    channels: int,
    width: int,
) -> Iterator[tuple[dict[Role, RowsOf], int]]:
    """Yield the parts with each layer that may be the output's, or without one."""
    rest = [layer for layer in layers if layer not in used]
    for layer in rest:
        if (layer.given, layer.made) == (width, channels):
            yield {**parts, "o": _whole(layer)}, width
    if not rest and width == channels:
        yield dict(parts), width


def _with_biases(module: nn.Module, parts: Mapping[Role, RowsOf]) -> dict[Role, RowsOf]:
    """Return the parts with the biases of their layers."""
    known = {*module.state_dict(), *(fold.bias for fold in folds_of(module))}

    def named(part: RowsOf) -> RowsOf:
        bias = f"{part.weight.removesuffix('weight')}bias"
        return replace(part, bias=bias if bias in known else "")

    return {role: named(part) for role, part in parts.items()}


def _heads(module: nn.Module, width: int) -> Iterator[int]:
    """Yield numbers of heads: those that attributes name, then other divisors of the width."""
    held = [pair for inner in module.modules() for pair in _numbers(inner)]
    named = [_heads_of(name, value, width) for name, value in held if "head" in name]
    others = [value for name, value in held if "head" not in name and 1 < value < width]
    every = range(1, min(width, MAX_HEADS) + 1)
    yield from dict.fromkeys(n for n in (*named, *others, *every) if n > 0 and width % n == 0)


def _numbers(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers among a module's attributes, and among those of its configuration."""
    config = vars(module).get("config")
    for held in (vars(module), getattr(config, "__dict__", {})):
        yield from ((name, value) for name, value in held.items() if type(value) is int)


def _heads_of(name: str, value: int, width: int) -> int:
    """Return the number of heads that an attribute means: itself, or by the size of a head."""
    sized = re.search(r"dim|size|width|channels", name) is not None
    return width // value if sized and 0 < value <= width else value


def _scales(module: nn.Module, width: int, heads: int) -> tuple[float, ...]:
    """Return factors of the logits: those that attributes name, then the usual ones."""
    named = [
        float(value)
        for inner in module.modules()
        for name, value in vars(inner).items()
        if name in {"scale", "scaling", "qk_scale", "softmax_scale"}
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
    ]
    return tuple(dict.fromkeys([*named, (width // heads) ** -0.5, width**-0.5, 1.0]))


def _positions(module: nn.Module, heads: int) -> tuple[int, str, int]:
    """Return the side of the windows, the name of the table of positions, and the shift."""
    for name, table in module.named_parameters():
        side = (isqrt(table.shape[0]) + 1) // 2 if table.ndim == 2 else 0
        if side > 1 and tuple(table.shape) == ((2 * side - 1) ** 2, heads):
            shift = getattr(module, "shift_size", 0)
            first = shift[0] if isinstance(shift, (list, tuple)) and shift else shift
            return side, name, first if isinstance(first, int) else 0
    return 0, "", 0

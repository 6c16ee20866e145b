"""Find self-attention in a module: by its class, or by the structure of its layers."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.inherit.attention_form import ROLES, Projection, Reading, Role
from modswap.nn.self_attention import SelfAttention

MAX_LAYERS = 8  # linear layers of a module that may be attention
MAX_HEADS = 64
_NAMES: Mapping[Role, re.Pattern[str]] = {
    "q": re.compile(r"(^|_|\.)(w?q|query|queries|to_q|q_?proj|q_?lin)([_.]|$|lin|proj|uery)", re.I),
    "k": re.compile(r"(^|_|\.)(w?k|key|keys|to_k|k_?proj|k_?lin)([_.]|$|lin|proj|ey)", re.I),
    "v": re.compile(r"(^|_|\.)(w?v|value|values|to_v|v_?proj|v_?lin)([_.]|$|lin|proj|alue)", re.I),
}
Layers = list[tuple[str, int, int, bool]]  # name, channels in, channels out, transposed


def readings(module: nn.Module, channels: int) -> Iterator[Reading]:
    """Yield the ways in which a module may be self-attention over `channels`, likely ones first.

    A reading that is not `certain` has to be compared with the module by a run.
    """
    known = _of_class(module)
    if known is not None:
        yield known
        return
    layers = _linear_layers(module)
    if not 1 < len(layers) <= MAX_LAYERS and not (len(layers) == 1 and layers[0][2] % 3 == 0):
        return
    ranked: list[tuple[int, Reading]] = []
    for parts, width in itertools.chain(_fused(layers, channels), _split(layers, channels)):
        biased = _with_biases(module, parts)
        for rarity, heads in enumerate(_heads(module, width)):
            window, table, shift = _positions(module, heads)
            first = Reading(heads, 1.0, biased, table, window, shift)
            scales = enumerate(_scales(module, width, heads))
            ranked += [(rarity + 2 * rare, replace(first, scale=scale)) for rare, scale in scales]
    yield from (reading for _, reading in sorted(ranked, key=lambda pair: pair[0]))


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
    heads, bias = module.num_heads, "in_proj_bias" in dict(module.named_parameters())
    if module.kdim != module.embed_dim or module.vdim != module.embed_dim:
        return None
    parts: dict[Role, Projection] = {}
    for index, role in enumerate(("q", "k", "v")):
        named = "in_proj_bias" if bias else ""
        parts[role] = Projection("in_proj_weight", named, "blocks", index, 3)  # type: ignore[index] # roles by their names
    out = "out_proj.bias" if "out_proj.bias" in module.state_dict() else ""
    parts["o"] = Projection("out_proj.weight", out)
    more = [name for name in ("bias_k", "bias_v") if name in dict(module.named_parameters())]
    notes = ("its added keys of zeros are left out",) if module.add_zero_attn else ()
    if more:
        notes = (*notes, f"{' and '.join(more)} are left out")
    return Reading(heads, module.head_dim**-0.5, parts, certain=True, notes=notes)


def _of_routing(module: BiLevelRoutingAttention) -> Reading:
    name = "qkv.qkv" if module.variant == "original" else "qkv_linear"
    out = "wo" if module.variant == "original" else "output_linear"
    sizes = (module.qk_dim, module.qk_dim, module.dim)
    parts: dict[Role, Projection] = {
        role: Projection(f"{name}.weight", f"{name}.bias", index=index, sizes=sizes)
        for index, role in enumerate(ROLES[:3])
    }
    if f"{out}.weight" in module.state_dict():
        parts["o"] = Projection(f"{out}.weight", f"{out}.bias")
    return Reading(module.num_heads, module.scale, parts, certain=True)


def _of_prefixed(module: SelfAttention) -> Reading:
    name = f"{module.prefix}_multi_head_attention"
    inner: Any = module.get_submodule(name)
    layers = dict(zip(ROLES, ("query", "key", "value", "output"), strict=True))
    parts = {
        role: Projection(f"{name}.{layer}.weight", f"{name}.{layer}.bias")
        for role, layer in layers.items()
    }
    width = inner.query.out_features // inner.num_heads
    notes = ("its residual and its layer norm are left out",)
    return Reading(
        inner.num_heads, width**-0.5, parts, causal=inner.mask, certain=True, notes=notes
    )


def _linear_layers(module: nn.Module) -> Layers:
    """Return linear layers and 1x1 convolutions with their channels."""
    found: Layers = []
    for name, layer in module.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.Linear):
            found.append((name, layer.in_features, layer.out_features, False))
        elif isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            if layer.groups == 1 and set(layer.kernel_size) == {1} == set(layer.stride):
                found.append((name, layer.in_channels, layer.out_channels, False))
        elif type(layer).__name__ == "Conv1D" and weight is not None and weight.ndim == 2:
            found.append((name, weight.shape[0], weight.shape[1], True))  # of transformers
    return found


def _fused(layers: Layers, channels: int) -> Iterator[tuple[dict[Role, Projection], int]]:
    """Yield the parts where queries, keys and values come from one layer, or keys and values."""
    for name, given, made, turned in layers:
        if given != channels:
            continue
        if made % 3 == 0:
            width = made // 3
            for orders in _orders(name, 3, turned=turned):
                parts = dict(zip(ROLES[:3], orders, strict=True))
                yield from _with_output(layers, {name}, parts, channels, width)
        for other, into, width, other_turned in layers:
            if other != name and into == channels and made == 2 * width:
                query = Projection(f"{other}.weight", transposed=other_turned)
                for orders in _orders(name, 2, turned=turned):
                    both = {"q": query, "k": orders[0], "v": orders[1]}
                    yield from _with_output(layers, {name, other}, both, channels, width)  # type: ignore[arg-type] # roles by their names


def _orders(name: str, count: int, *, turned: bool) -> Iterator[tuple[Projection, ...]]:
    for order in ("blocks", "heads"):
        yield tuple(
            Projection(f"{name}.weight", "", order, index, count, turned) for index in range(count)
        )


def _split(layers: Layers, channels: int) -> Iterator[tuple[dict[Role, Projection], int]]:
    """Yield the parts where queries, keys and values come from layers of their own."""
    sizes = dict.fromkeys(made for _, given, made, _ in layers if given == channels)
    for width in sizes:
        alike = [layer for layer in layers if layer[1] == channels and layer[2] == width]
        guess = [next((la for la in alike if _NAMES[r].search(la[0])), None) for r in ROLES[:3]]
        orders = [tuple(g for g in guess if g is not None)] if all(guess) else []
        orders += list(itertools.permutations(alike, 3))
        for chosen in dict.fromkeys(orders):
            if len({layer[0] for layer in chosen}) < 3:
                continue
            parts = {
                role: Projection(f"{layer[0]}.weight", transposed=layer[3])
                for role, layer in zip(ROLES[:3], chosen, strict=True)
            }
            yield from _with_output(layers, {la[0] for la in chosen}, parts, channels, width)


def _with_output(
    layers: Layers,
    used: set[str],
    parts: Mapping[Role, Projection],
    channels: int,
    width: int,
) -> Iterator[tuple[dict[Role, Projection], int]]:
    """Yield the parts with each layer that may be the output's, or without one."""
    rest = [layer for layer in layers if layer[0] not in used]
    for name, given, made, turned in rest:
        if (given, made) == (width, channels):
            yield {**parts, "o": Projection(f"{name}.weight", transposed=turned)}, width
    if not rest and width == channels:
        yield dict(parts), width


def _with_biases(module: nn.Module, parts: Mapping[Role, Projection]) -> dict[Role, Projection]:
    """Return the parts with the biases of their layers."""
    state = module.state_dict()

    def named(part: Projection) -> Projection:
        bias = f"{part.weight.removesuffix('weight')}bias"
        there = state.get(bias) is not None
        return Projection(
            part.weight, bias if there else "", part.order, part.index, part.count, part.transposed
        )

    return {role: named(part) for role, part in parts.items()}


def _heads(module: nn.Module, width: int) -> Iterator[int]:
    """Yield numbers of heads: those that attributes name, then other divisors of the width."""
    named: list[int] = []
    likely: list[int] = []
    for inner in module.modules():
        held = {**vars(inner), **vars(vars(inner).get("config") or object.__new__(_Empty))}
        for name, value in held.items():
            if not isinstance(value, int) or isinstance(value, bool):
                continue
            if "head" in name:
                sized = re.search(r"dim|size|width|channels", name)
                named.append(width // value if sized and 0 < value <= width else value)
            elif 1 < value < width:
                likely.append(value)
    named += likely
    others = (n for n in range(1, min(width, MAX_HEADS) + 1) if width % n == 0)
    found = dict.fromkeys(n for n in (*named, *others) if n > 0 and width % n == 0)
    yield from found


class _Empty:
    """An object without attributes, in place of a configuration."""


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
        side = (round(table.shape[0] ** 0.5) + 1) // 2 if table.ndim == 2 else 0
        if side and table.shape[1] == heads and table.shape[0] == (2 * side - 1) ** 2 and side > 1:
            shift = getattr(module, "shift_size", 0)
            first = shift[0] if isinstance(shift, (list, tuple)) and shift else shift
            return side, name, first if isinstance(first, int) else 0
    return 0, "", 0

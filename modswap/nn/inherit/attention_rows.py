"""Put attention into the modules of the catalogue that hold it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.inherit.attention_form import ROLES, Attention, Reading
from modswap.nn.multi_head_self_attention import MultiHeadSelfAttention
from modswap.nn.self_attention import SelfAttention
from modswap.nn.window_attention import WindowAttention

EXACT = 1e-12  # a ratio of scales that is 1 but for rounding
SILENT = "zeros"  # the source of a part that adds nothing


class UnfitFormError(Exception):
    """A form does not fit a module; the message is the reason."""


@dataclass(slots=True)
class Given:
    """New values for the state of a module, with their sources, and notes for the report."""

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: torch.Tensor, source: str) -> None:
        """Set the new value of a tensor."""
        self.values[name], self.sources[name] = value, source


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """A row of the catalogue that holds attention.

    Args:
        arguments: Return the arguments of the row that follow from a reading; those that the recipe
            names win.
        give: Return the state of a module with the values of attention.
    """

    arguments: Callable[[Reading, int, int], dict[str, Any]]
    give: Callable[[Attention, Any], Given]


def _routed_arguments(reading: Reading, channels: int, width: int) -> dict[str, Any]:
    found = {"num_heads": reading.heads, "qk_scale": reading.scale, "mask_padding": True}
    found |= {"side_dwconv": reading.side} if reading.side else {}
    return found if width == channels else {**found, "qk_dim": width}


def _give_routed(form: Attention, module: BiLevelRoutingAttention) -> Given:
    _same_heads(form, module.num_heads, "num_heads")
    _not_causal(form)
    refactored = module.variant == "refactored"
    names = ("qkv_linear", "output_linear") if refactored else ("qkv.qkv", "wo")
    given = _joined(form, names[0], form.reading.scale / module.scale)
    if f"{names[1]}.weight" in module.state_dict():
        _output(form, given, names[1])
    elif "o.weight" in form.weights:
        raise UnfitFormError("param_attention is qkv, but the old module has an output projection")
    _give_local(form, module, given)
    _without_table(form, given)
    windows = module.n_win**2
    if module.topk < windows:
        what = f"topk {module.topk} of {windows} windows: with all of them it is the old attention"
        given.notes.append(what)
    return given


def _give_local(form: Attention, module: BiLevelRoutingAttention, given: Given) -> None:
    """Give the convolution of the values, or silence it where the old module has none."""
    own = dict(module.lepe.named_parameters()) if module.lepe is not None else {}
    local = form.weights.get("local.weight")
    held = local is not None and bool(own) and local.shape == own["weight"].shape
    for kind, value in own.items():
        name = f"local.{kind}"
        if held and name in form.weights:
            given.put(f"lepe.{kind}", form.weights[name], form.source(name))
        else:
            given.put(f"lepe.{kind}", torch.zeros_like(value, device=_device(form)), SILENT)
    if not held:
        _without_local(form, given)


def _plain_arguments(reading: Reading, channels: int, width: int) -> dict[str, Any]:
    del channels, width
    return {"num_heads": reading.heads, "qkv_bias": _biased(reading)}


def _window_arguments(reading: Reading, channels: int, width: int) -> dict[str, Any]:
    found = _plain_arguments(reading, channels, width)
    if reading.window:
        found |= {"window_size": reading.window, "shift_size": reading.shift}
    return found


def _biased(reading: Reading) -> bool:
    return any(reading.parts[role].bias for role in ROLES[:3])


def _give_plain(form: Attention, module: MultiHeadSelfAttention) -> Given:
    given = _give_timm(form, module)
    _without_table(form, given)
    return given


def _give_timm(form: Attention, module: MultiHeadSelfAttention | WindowAttention) -> Given:
    """Return the state of a module with the layers `qkv` and `proj`."""
    _same_heads(form, module.num_heads, "num_heads")
    _not_causal(form)
    head = module.dim // module.num_heads
    form = _widened(form, head)
    given = _joined(form, "qkv", form.reading.scale * head**0.5)
    if "qkv.bias" not in module.state_dict():
        del given.values["qkv.bias"], given.sources["qkv.bias"]
        if _biased(form.reading):
            given.notes.append("the biases of queries, keys and values: qkv_bias is false")
    _output(form, given, "proj")
    _without_local(form, given)
    return given


def _give_windowed(form: Attention, module: WindowAttention) -> Given:
    given = _give_timm(form, module)
    name = "relative_position_bias_table"
    table, like = form.weights.get("table"), module.relative_position_bias_table
    if table is not None and table.shape == like.shape:
        given.put(name, table, form.source("table"))
    else:
        _without_table(form, given)
        given.put(name, torch.zeros_like(like, device=_device(form)), SILENT)
    given.put("relative_position_index", module.relative_position_index, "its own windows")
    return given


def _prefixed_arguments(reading: Reading, channels: int, width: int) -> dict[str, Any]:
    del channels
    found = {"num_heads": reading.heads, "key_dim": width // reading.heads}
    return {**found, "mask": reading.causal} if reading.causal else found


def _give_prefixed(form: Attention, module: SelfAttention) -> Given:
    name = f"{module.prefix}_multi_head_attention"
    inner: Any = module.get_submodule(name)
    _same_heads(form, inner.num_heads, "num_heads")
    if form.reading.causal != inner.mask:
        raise UnfitFormError("`mask` is another than in the old module")
    head = inner.query.out_features // inner.num_heads
    given = Given()
    ratio = form.reading.scale * head**0.5
    for role, layer in zip(ROLES, ("query", "key", "value", "output"), strict=True):
        factor = ratio if role == "q" else 1.0
        for kind, value in (("weight", form.weight(role)), ("bias", form.bias(role))):
            source = form.source(f"{role}.{kind}")
            scaled = value if abs(factor - 1) < EXACT else value.double() * factor
            given.put(f"{name}.{layer}.{kind}", scaled, source)
    given.notes.append("its own residual and layer norm are added")
    _without_local(form, given)
    _without_table(form, given)
    return given


def _widened(form: Attention, head: int) -> Attention:
    """Return attention whose queries and keys have heads of a size, filled up with zeros."""
    heads = form.reading.heads
    wider = dict(form.weights)
    for role in ("q", "k"):
        for name in (f"{role}.weight", f"{role}.bias"):
            if name in wider and 0 < len(wider[name]) < heads * head:
                each = wider[name].unflatten(0, (heads, -1))
                room = each.new_zeros(heads, head - each.shape[1], *each.shape[2:])
                wider[name] = torch.cat([each, room], dim=1).flatten(0, 1)
    return replace(form, weights=wider)


def _joined(form: Attention, name: str, ratio: float) -> Given:
    """Return queries, keys and values in one layer; the queries times a ratio of scales."""
    given = Given()
    roles = ROLES[:3]
    factors = (ratio, 1.0, 1.0)
    exact = abs(ratio - 1) < EXACT
    for kind in ("weight", "bias"):
        parts = [form.weight(r) if kind == "weight" else form.bias(r) for r in roles]
        # in double precision, since the module may be in half
        scaled = parts if exact else [p.double() * f for p, f in zip(parts, factors, strict=True)]
        sources = dict.fromkeys(form.source(f"{r}.{kind}") for r in roles)
        given.put(f"{name}.{kind}", torch.cat(scaled), _together(list(sources)))
    return given


def _together(sources: list[str]) -> str:
    """Return the sources of queries, keys and values in words; parts of one tensor are it."""
    bare = list(dict.fromkeys(source.partition(" (part ")[0] for source in sources))
    return ", ".join(bare)


def _output(form: Attention, given: Given, name: str) -> None:
    given.put(f"{name}.weight", form.weight("o"), form.source("o.weight"))
    given.put(f"{name}.bias", form.bias("o"), form.source("o.bias"))


def _device(form: Attention) -> torch.device:
    return form.weights["q.weight"].device


def _same_heads(form: Attention, heads: int, name: str) -> None:
    if form.reading.heads != heads:
        what = f"{name} is {heads}, the old module has {form.reading.heads} heads"
        raise UnfitFormError(what)


def _not_causal(form: Attention) -> None:
    if form.reading.causal:
        raise UnfitFormError("the old attention is causal, the new one has no mask")


def _without_local(form: Attention, given: Given) -> None:
    if "local.weight" in form.weights:
        source = form.source("local.weight").removesuffix(".weight")
        given.notes.append(f"{source} is left out: it has no such convolution of the values")


def _without_table(form: Attention, given: Given) -> None:
    if "table" in form.weights:
        given.notes.append(f"{form.source('table')} is left out: it has no such positions")


ATTENTION_ROWS: Mapping[type[nn.Module], AttentionRow] = {
    BiLevelRoutingAttention: AttentionRow(_routed_arguments, _give_routed),
    MultiHeadSelfAttention: AttentionRow(_plain_arguments, _give_plain),
    WindowAttention: AttentionRow(_window_arguments, _give_windowed),
    SelfAttention: AttentionRow(_prefixed_arguments, _give_prefixed),
}

"""A linear map `A·x` beside a new module, for what its own layers cannot hold of the old one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.decided.blueprint import Blueprint
from modswap.core.seen.joint import Joint, free_name
from modswap.nn.inserted_site import inserted_names
from modswap.nn.insertion import Insertion
from modswap.ops.heal import ranks
from modswap.ops.heal.closed.maps import tensor_of
from modswap.ops.heal.passes import Models, SiteCall
from modswap.ops.heal.sites import Bypass, HealedSite

NAME = "bypass"
LEAST = 1e-3  # share of the old module's variance that a map has to explain
_SIDE = 3  # of a depthwise kernel
_RIDGE = 1e-6
_SAMPLES = 128  # by which the kind of a map is chosen


@torch.no_grad()
def put_bypasses(
    models: Models, sites: Sequence[HealedSite], chosen: Sequence[int]
) -> tuple[HealedSite, ...]:
    """Put a layer that gives nothing yet beside each new module, of the kind that fits best.

    It returns the sites with what they have got. A site whose old module is no linear map to a
    share, or is not called with one tensor, gets none. The module's class stays: the layer runs in
    a hook until the model is written.
    """
    few = chosen[:_SAMPLES]
    return tuple(replace(s, bypass=_put(models, s, few)) if s.replaces else s for s in sites)


def _put(models: Models, site: HealedSite, chosen: Sequence[int]) -> Bypass | None:
    if inserted_names(site.learned):
        return None  # a healing before this one put it there, and it learns with the module
    kinds = _kinds(site, models.observed(site, chosen[:2]))
    sums = [_LayerSums(kind) for kind in kinds]
    for call in models.calls(site, chosen) if kinds else ():
        for one in sums:
            one.add(_given(call), tensor_of(call.target))
    for one in sums:
        one.join()
    explained = ranks.from_first([one.explained() for one in sums])
    if not explained or max(explained) < LEAST:
        return None
    kind = kinds[explained.index(max(explained))]
    module = site.learned
    name = free_name(NAME, {*dict(module.named_children()), *vars(module)})
    args = kind.args()
    layer: nn.Module = nn.Linear(**args) if kind.rows else nn.Conv2d(**args)
    joint = Joint("around", "plain", axes=0 if kind.rows else 2, source=(kind.key,))
    blueprint = Blueprint(f"torch.nn:{type(layer).__name__}", args, joint=joint)
    inserted = Insertion(layer.to(next(module.parameters(), torch.zeros(1))), joint)
    module.add_module(name, inserted)

    def beside(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return inserted.joined(output, inserted.branch(args, kwargs))

    hook = module.register_forward_hook(beside, with_kwargs=True)
    found = Bypass(name, blueprint, inserted, hook)
    found.clear()
    return found


def without_idle(sites: Sequence[HealedSite]) -> tuple[HealedSite, ...]:
    """Take out the layers that give nothing, which no fit is to train; return the sites."""
    return tuple(_without_idle(site) for site in sites)


def _without_idle(site: HealedSite) -> HealedSite:
    if site.bypass is None or site.bypass.used:
        return site
    site.bypass.hook.remove()
    delattr(site.learned, site.bypass.name)
    return replace(site, bypass=None)


@dataclass(frozen=True, slots=True)
class _LayerKind:
    """A kind of a linear layer, by its sizes; `key` is the argument that it is given."""

    key: int | str
    inputs: int
    outputs: int
    rows: bool = False  # whether the channels are on the last axis
    side: int = 1  # of a depthwise kernel
    stride: int = 1

    @property
    def depthwise(self) -> bool:
        return self.side > 1

    def args(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        if self.rows:
            return {"in_features": self.inputs, "out_features": self.outputs}
        args: dict[str, Any] = {"in_channels": self.inputs, "out_channels": self.outputs}
        args["kernel_size"] = self.side
        more = {"padding": self.side // 2, "groups": self.inputs} if self.depthwise else {}
        stride = {"stride": self.stride} if self.stride > 1 else {}
        return {**args, **more, **stride}

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layer sees at each place, (groups, places, values), with a one behind."""
        if self.rows:
            seen = x.reshape(1, -1, self.inputs)
        elif self.depthwise:
            patches = F.unfold(x, self.side, padding=self.side // 2, stride=self.stride)
            seen = patches.unflatten(1, (self.inputs, -1)).permute(1, 0, 3, 2).flatten(1, 2)
        else:
            strided = x[:, :, :: self.stride, :: self.stride]
            seen = strided.permute(0, 2, 3, 1).reshape(1, -1, self.inputs)
        return torch.cat([seen, seen.new_ones(*seen.shape[:2], 1)], 2)

    def wanted(self, y: torch.Tensor) -> torch.Tensor:
        """Return what the layer is to give there, (groups, places, values)."""
        if self.rows:
            return y.reshape(1, -1, self.outputs)
        places = y.permute(0, 2, 3, 1).reshape(-1, self.outputs)
        return places.T[..., None] if self.depthwise else places[None]


def _kinds(site: HealedSite, calls: Sequence[SiteCall]) -> list[_LayerKind]:
    """Return the kinds of layers that can stand beside the new module of a site."""
    if not calls:
        return []
    call = calls[0]
    x, y = _given(call), call.target
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor) or x.ndim != y.ndim:
        return []
    key: int | str = 0 if call.args else next(iter(call.kwargs))
    if x.ndim == 4 and site.layout in {None, "NCHW"}:
        return _of_maps(key, x, y)
    same = x.shape[:-1] == y.shape[:-1] and not isinstance(site.old, nn.Conv1d)
    return [_LayerKind(key, x.shape[-1], y.shape[-1], rows=True)] if same else []


def _of_maps(key: int | str, x: torch.Tensor, y: torch.Tensor) -> list[_LayerKind]:
    stride = -(-x.shape[2] // y.shape[2])
    if any(-(-a // stride) != b for a, b in zip(x.shape[2:], y.shape[2:], strict=True)):
        return []
    channels = x.shape[1], y.shape[1]
    dense = _LayerKind(key, *channels, stride=stride)
    if channels[0] != channels[1]:
        return [dense]
    return [dense, _LayerKind(key, *channels, side=_SIDE, stride=stride)]


def _given(call: SiteCall) -> Any:
    return next(iter((*call.args, *call.kwargs.values())), None)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """Return values in float64, on the CPU where their device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _joined(*sums: Any) -> list[Any]:
    """Return sums over all processes; 0 for one to which nothing was added."""
    found = ranks.summed([one if isinstance(one, torch.Tensor) else None for one in sums])
    return [0.0 if one is None else one for one in found]


class _Variance:
    """The sum of squares of values (groups, places, values) around the mean of each."""

    def __init__(self) -> None:
        self.count, self.squares = 0, 0.0
        self.totals: Any = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Add some places."""
        self.count += values.shape[1]
        wide = _wide(values)
        self.squares += float(wide.square().sum())
        self.totals = self.totals + wide.sum(1)

    def join(self) -> None:
        """Add what the other processes have."""
        count, self.squares = ranks.totals([self.count, self.squares])
        self.count = int(count)
        (self.totals,) = _joined(self.totals)

    @property
    def value(self) -> float:
        """Return it for all places."""
        return self.squares - float(self.totals.square().sum()) / max(self.count, 1)


class _LayerSums:
    """Second moments of what a layer sees and is to give, and the layer that fits best."""

    def __init__(self, kind: _LayerKind) -> None:
        self.kind = kind
        self.gram: Any = 0.0
        self.cross: Any = 0.0
        self.totals: Any = 0.0
        self.of_target = _Variance()

    def add(
        self, x: torch.Tensor, target: torch.Tensor | None, own: torch.Tensor | float = 0.0
    ) -> None:
        """Add a call: what the old module gave in it, and what the new one gives by itself."""
        if target is None:
            return
        self.of_target.add(self.kind.wanted(target))
        wanted = target - own
        seen, y = _wide(self.kind.features(x)), _wide(self.kind.wanted(wanted))
        self.gram = self.gram + seen.mT @ seen
        self.cross = self.cross + seen.mT @ y
        self.totals = self.totals + y.sum(1)

    def join(self) -> None:
        """Add what the other processes have."""
        self.of_target.join()
        self.gram, self.cross, self.totals = _joined(self.gram, self.cross, self.totals)

    def solution(self) -> torch.Tensor:
        """Return the weights with the bias in the last row, (groups, values, outputs)."""
        level = self.gram.diagonal(dim1=1, dim2=2)[:, :-1].mean(1).clamp(min=1e-30)
        shift = torch.zeros_like(self.gram)
        shift.diagonal(dim1=1, dim2=2)[:, :-1] = _RIDGE * level[:, None]
        found: torch.Tensor = torch.linalg.solve(self.gram + shift, self.cross)
        return found

    def explained(self) -> float:
        """Return the share of the targets' variance that the layer explains."""
        if not isinstance(self.gram, torch.Tensor):
            return 0.0
        by_mean = float(self.totals.square().sum() / self.gram[0, -1, -1])
        by_layer = float((self.solution() * self.cross).sum())
        return (by_layer - by_mean) / max(self.of_target.value, 1e-30)


@torch.no_grad()
def fit_bypass(
    models: Models, site: HealedSite, bypass: Bypass, chosen: Sequence[int]
) -> tuple[str, ...]:
    """Give a layer the weights that fit best what the new module by itself leaves.

    It returns a sentence for the report; nothing, if there is nothing to be fitted.
    """
    layer = bypass.layer
    bypass.clear()
    kind = _kind_of(bypass)
    sums = _LayerSums(kind)
    for call in models.calls(site, chosen):
        target, own = tensor_of(call.target), tensor_of(site.new(*call.args, **call.kwargs))
        if target is not None and own is not None and own.shape == target.shape:
            sums.add(_given(call), target, own)
    sums.join()
    if ranks.from_first(sums.explained()) < LEAST:
        return ()
    found = sums.solution()  # (groups, values, outputs)
    weight = found[:, :-1].mT.reshape(layer.weight.shape)
    layer.weight.copy_(weight)
    assert layer.bias is not None  # noqa: S101 - made so
    layer.bias.copy_(found[:, -1].flatten())
    return (f"beside it is a linear map (bypass): {layer}",)


def _kind_of(bypass: Bypass) -> _LayerKind:
    layer, (key,) = bypass.layer, bypass.inserted.source
    if isinstance(layer, nn.Linear):
        return _LayerKind(key, layer.in_features, layer.out_features, rows=True)
    side, stride = int(layer.kernel_size[0]), int(layer.stride[0])
    return _LayerKind(key, layer.in_channels, layer.out_channels, side=side, stride=stride)

"""A depthwise convolution between two projections, as bi-level routing attention holds it."""

import copy
from typing import cast

import torch
from torch import nn

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms.form import Parts, search
from modswap.nn.linear_forms.moments import Fitting, unfolded
from modswap.nn.linear_forms.projected import Projected, fill_by_heads

_NOISE = 0.1  # of the depthwise kernel at the start, beside its centre of 1
_SEED = 0
_ITERATIONS = 50
# of those with attention: each takes more of it out of play. On three seeds of digits its share of
# the variance was .034 to .049 after 3, .022 to .030 after 4 and .021 to .028 after 5, agreement
# .990 to .995, .995 to .997 and .997; on one seed .014 and .992 after 20
_ATTENDED_ITERATIONS = 4
_MOST_COLUMNS = 2500  # up to which attention is fitted with the map
# modes of pooling that are linear in the values
_LINEAR_POOLING = frozenset({"identity", "avgpool", "ada_avgpool"})


class Separable(Projected):
    """The map Wo · (K + attention) · Wv of a module: values, a depthwise kernel, the projection.

    The parts are Wv (C, C + 1) with its bias in the last column, K (C, side²), and Wo (C, C).
    Queries and keys stay, so that attention is a linear map of the values: a further tap of each
    head holds the map attended by that head, and what attention adds is fitted as it is.
    """

    stride = (1, 1)
    searched = 2
    biased = True

    def __init__(self, module: BiLevelRoutingAttention, *, damp: float = 1.0) -> None:
        self.module = module
        self.damp = damp
        self.side = 1 if module.lepe is None else int(module.lepe.kernel_size[0])
        projected = isinstance(self._last, (nn.Linear, nn.Conv2d))
        self.present = module.lepe is not None and projected
        self.channels = module.dim
        self.centre = self.side**2 // 2
        self.heads = module.num_heads
        linear = module.kv_downsample_mode in _LINEAR_POOLING
        small = (self.channels + 1) * (self.side**2 + self.heads) <= _MOST_COLUMNS
        self.attended = self.present and linear and small
        self.taps = self.side**2 + (self.heads if self.attended else 0)
        self.iterations = _ATTENDED_ITERATIONS if self.attended else _ITERATIONS
        self._probe: BiLevelRoutingAttention | None = None

    @property
    def _last(self) -> nn.Module:
        return _last(self.module)

    def seen(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the patches of maps, with the map attended by each head beside them."""
        patches = unfolded(maps, self.side, 1)
        if not self.attended:
            return patches
        taps = patches.unflatten(1, (self.channels + 1, self.side**2))
        return torch.cat([taps, self._by_heads(maps)], 2).flatten(1, 2)

    @torch.no_grad()
    def _by_heads(self, maps: torch.Tensor) -> torch.Tensor:
        """Return every channel of maps, and of ones, as each head attends to it.

        (N, C, H, W) -> (N, C + 1, heads, H W): the values of a copy are channels of the map, those
        of one head after those of another.
        """
        self._probe = self._probe or _bare(self.module)
        probe, channels = self._probe, self.channels
        found = maps.new_zeros(len(maps), channels + 1, self.heads, *maps.shape[2:])
        fill_by_heads(found, lambda values: _attended(probe, maps, values, 0.0))
        ones = _attended(probe, maps, maps.new_zeros(channels, channels), 1.0)
        found[:, -1] = ones[:, :: channels // self.heads]
        return found.flatten(3)

    def begin(self, fitting: Fitting) -> list[torch.Tensor]:
        """Return parts that are nearly the identity, or the best of a search without attention."""
        taps = self.side**2
        generator = torch.Generator().manual_seed(_SEED)
        values = self._identity()
        noise = torch.randn(self.channels, taps, generator=generator, dtype=torch.float64)
        local = _NOISE * noise
        local[:, taps // 2] += 1
        if not self.attended:
            return self.settled([values, local], fitting)
        columns = torch.arange(len(fitting.gram)).view(-1, self.taps)[:, :taps].flatten()
        parts = [values.requires_grad_(), local.requires_grad_()]
        self.attended = False
        try:
            search(self, parts, fitting.of(columns), _ITERATIONS)
        finally:
            self.attended = True
        return [part.detach() for part in parts]

    def _identity(self) -> torch.Tensor:
        eye = torch.eye(self.channels, dtype=torch.float64)
        return torch.cat([eye, eye.new_zeros(self.channels, 1)], 1)

    def rows(self, parts: Parts) -> torch.Tensor:
        """Return the map up to the output projection, (C, D)."""
        values, local = parts[:2]
        if self.attended:
            # the module's kernels have a length of `damp`: attention's weight is 1 beside that
            weight = local.norm(dim=1).clamp(min=1e-12) / self.damp
            head = torch.arange(self.channels) // (self.channels // self.heads)
            own = torch.nn.functional.one_hot(head, self.heads).to(local)
            local = torch.cat([local, own * weight[:, None]], 1)
        return torch.einsum("rt,rc->rct", local, values).flatten(1)

    def inherited(self, convolution: Convolution) -> list[torch.Tensor] | None:
        """Return the parts that are a depthwise convolution of at most this side."""
        weight, layer = convolution.weight, convolution.layer
        side = weight.shape[-1]
        plain = layer.stride == (1, 1) and layer.dilation == (1, 1) and side % 2 == 1
        fits = side <= self.side and layer.padding in {(side // 2, side // 2), "same"}
        same = weight.shape[0] == weight.shape[1] == self.channels
        if not (plain and fits and same and weight.shape[2] == side):
            return None
        own = weight.diagonal(dim1=0, dim2=1).permute(2, 0, 1)  # (C, k, k)
        if not torch.equal(torch.diag_embed(own.permute(1, 2, 0)).permute(2, 3, 0, 1), weight):
            return None  # it mixes channels
        edge = (self.side - side) // 2
        local = torch.nn.functional.pad(own, (edge,) * 4).flatten(1).double()
        return [self._identity(), local, torch.eye(self.channels, dtype=torch.float64)]

    @torch.no_grad()
    def put(self, parts: Parts, bias: torch.Tensor) -> None:
        """Write the parts: unit rows of values, kernels of length `damp`.

        The output projection is smaller by as much, and with it all that attention adds.
        """
        values, local, last = parts
        norm = local.norm(dim=1, keepdim=True).clamp(min=1e-12)
        size = values[:, :-1].norm(dim=1, keepdim=True).clamp(min=1e-12)
        _set_values(self.module, values[:, :-1] / size, (values[:, -1:] / size)[:, 0])
        depthwise = cast("nn.Conv2d", self.module.lepe)
        depthwise.weight.copy_((self.damp * local / norm).view_as(depthwise.weight))
        if depthwise.bias is not None:
            depthwise.bias.zero_()
        output = cast("nn.Linear | nn.Conv2d", self._last)
        output.weight.copy_((last * norm.T * size.T / self.damp).view_as(output.weight))
        if output.bias is not None:
            output.bias.copy_(bias)

    def mechanism(self) -> list[torch.Tensor]:
        """Return the depthwise convolution's tensors."""
        return list(cast("nn.Conv2d", self.module.lepe).parameters())


def _last(module: BiLevelRoutingAttention) -> nn.Module:
    return module.wo if module.variant == "original" else module.output_linear


def _set_values(
    module: BiLevelRoutingAttention, weight: torch.Tensor, bias: torch.Tensor | float
) -> None:
    """Set the projection of the values."""
    original = module.variant == "original"
    layer = module.qkv.qkv if original else module.qkv_linear
    first = 2 * (module.qk_dim if original else module.dim)
    own = layer.weight[first:]
    own.copy_(weight.view_as(own))
    if layer.bias is not None:
        layer.bias[first:] = bias


def _bare(module: BiLevelRoutingAttention) -> BiLevelRoutingAttention:
    """Return a copy of a module whose convolution adds nothing."""
    probe = copy.deepcopy(module).eval()
    for tensor in cast("nn.Conv2d", probe.lepe).parameters():
        tensor.zero_()
    return probe


def _attended(
    probe: BiLevelRoutingAttention, maps: torch.Tensor, weight: torch.Tensor, bias: float
) -> torch.Tensor:
    """Return what attention gives for values of a projection: (N, C, H, W) -> the same."""
    _set_values(probe, weight, bias)
    found: list[torch.Tensor] = []
    handle = _last(probe).register_forward_pre_hook(lambda _, args: found.append(args[0]))
    try:
        given = maps.to(next(probe.parameters()).dtype)
        probe(given if probe.layout == "NCHW" else given.permute(0, 2, 3, 1))
    finally:
        handle.remove()
    held = found[0] if probe.variant == "refactored" else found[0].permute(0, 3, 1, 2)
    return held.to(maps.dtype)

"""A depthwise convolution between two projections, as bi-level routing attention holds it."""

from typing import cast

import torch
from torch import nn

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms.form import Parts, ridged
from modswap.nn.linear_forms.moments import Fitting

_NOISE = 0.1  # of the depthwise kernel at the start, beside its centre of 1
_SEED = 0


class Separable:
    """The map Wo · K · Wv of a module: values, a depthwise kernel, the output's projection.

    The parts are Wv (C, C + 1) with its bias in the last column, K (C, side²), and Wo (C, C).
    """

    stride = 1
    searched = 2
    biased = True

    def __init__(self, module: BiLevelRoutingAttention) -> None:
        self.module = module
        self.layer = module.lepe
        self.side = 1 if module.lepe is None else int(module.lepe.kernel_size[0])
        projected = isinstance(self._last, (nn.Linear, nn.Conv2d))
        self.present = module.lepe is not None and projected
        self.channels = module.dim

    @property
    def _last(self) -> nn.Module:
        module = self.module
        return module.wo if module.variant == "original" else module.output_linear

    def begin(self, fitting: Fitting) -> list[torch.Tensor]:
        """Return parts that are nearly the identity, with the best output projection."""
        taps = self.side**2
        generator = torch.Generator().manual_seed(_SEED)
        values = self._identity()
        noise = torch.randn(self.channels, taps, generator=generator, dtype=torch.float64)
        local = _NOISE * noise
        local[:, taps // 2] += 1
        return self.settled([values, local], fitting)

    def _identity(self) -> torch.Tensor:
        eye = torch.eye(self.channels, dtype=torch.float64)
        return torch.cat([eye, eye.new_zeros(self.channels, 1)], 1)

    def _rows(self, parts: Parts) -> torch.Tensor:
        """Return the map up to the depthwise convolution, (C, D)."""
        return torch.einsum("rt,rc->rct", parts[1], parts[0]).flatten(1)

    def kernel(self, parts: Parts) -> torch.Tensor:
        """Return the map (D, C)."""
        return (parts[2] @ self._rows(parts)).T

    def settled(self, parts: Parts, fitting: Fitting) -> list[torch.Tensor]:
        """Return the parts with the best output projection."""
        rows = self._rows(parts)
        gram = ridged((rows @ fitting.gram @ rows.T).double())
        last = torch.linalg.solve(gram, (rows @ fitting.cross).double()).T
        return [parts[0], parts[1], last.to(rows.dtype)]

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
    def put(self, parts: Parts, bias: torch.Tensor, damp: float) -> None:
        """Write the parts: unit rows of values and kernels, the kernels `damp` times as large.

        The output projection is smaller by as much, and with it all that attention adds.
        """
        module = self.module
        values, local, last = parts
        norm = local.norm(dim=1, keepdim=True).clamp(min=1e-12)
        size = values[:, :-1].norm(dim=1, keepdim=True).clamp(min=1e-12)
        original = module.variant == "original"
        layer = module.qkv.qkv if original else module.qkv_linear
        first = 2 * (module.qk_dim if original else self.channels)
        weight = layer.weight[first:]
        weight.copy_((values[:, :-1] / size).view_as(weight))
        if layer.bias is not None:
            layer.bias[first:].copy_((values[:, -1:] / size)[:, 0])
        depthwise = cast("nn.Conv2d", module.lepe)
        depthwise.weight.copy_((damp * local / norm).view_as(depthwise.weight))
        if depthwise.bias is not None:
            depthwise.bias.zero_()
        output = cast("nn.Linear | nn.Conv2d", self._last)
        output.weight.copy_((last * norm.T * size.T / damp).view_as(output.weight))
        if output.bias is not None:
            output.bias.copy_(bias)

    def mechanism(self) -> list[torch.Tensor]:
        """Return the depthwise convolution's tensors."""
        return list(cast("nn.Conv2d", self.module.lepe).parameters())

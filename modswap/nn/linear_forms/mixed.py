"""A grouped convolution of a few maps, as ACmix holds it."""

import torch

from modswap.nn.acmix import ACmix
from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms.form import Parts, ridged
from modswap.nn.linear_forms.moments import Fitting, unfolded

_SEED = 0
_NOISE = 0.1  # of what has no start of its own


class Mixed:
    """The map of the convolution path: 1x1 maps, their sums by taps, a grouped convolution.

    Each group of `head` outputs passes min(k², 3 head) linear maps, so that not every convolution
    can be held. The parts are the maps (3 head, groups, C + 1) with their bias in the last column,
    the sums (k², 3 head) and the kernels (groups, head, k², k²).
    """

    biased = False
    present = True
    searched = 3
    iterations = 300

    damp = 1.0  # attention is switched off in any case

    def __init__(self, module: ACmix, *, damp: float = 1.0) -> None:
        del damp
        self.module: ACmix = module
        self.side = module.kernel_conv
        self.taps, self.centre = self.side**2, self.side**2 // 2
        self.stride = (module.stride, module.stride)

    def seen(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the patches of maps."""
        return unfolded(maps, self.side, self.stride[0])

    def begin(self, fitting: Fitting) -> list[torch.Tensor]:
        """Return the best low rank of each group in the dense solution."""
        module, taps = self.module, self.side**2
        heads, groups, inputs = module.head, module.head_dim, module.in_planes + 1
        rank = min(3 * heads, taps)
        generator = torch.Generator().manual_seed(_SEED)
        dense = torch.linalg.solve(fitting.gram, fitting.cross).T.view(groups, heads, inputs, taps)
        root = self._root(fitting.gram, inputs)
        maps = fitting.gram.new_zeros(3 * heads, groups, inputs)
        kernels = fitting.gram.new_zeros(groups, heads, taps, taps)
        for group in range(groups):
            flat = dense[group].permute(1, 0, 2).reshape(inputs, heads * taps)
            left, size, right = torch.linalg.svd(root.T @ flat, full_matrices=False)
            held = min(rank, len(size))
            maps[:held, group] = torch.linalg.solve(root.T, left[:, :held]).T
            after = (size[:held, None] * right[:held]).view(held, heads, taps)
            kernels[group, :, :held] = after.permute(1, 0, 2)
        free = maps[rank:]
        free.copy_(torch.randn(free.shape, generator=generator, dtype=free.dtype))
        free.mul_(_NOISE * maps[:rank].std())
        sums = _NOISE * torch.randn(taps, 3 * heads, generator=generator, dtype=free.dtype)
        sums[:, :rank] = torch.eye(taps, rank, dtype=free.dtype)
        return [maps, sums, kernels]

    def _root(self, gram: torch.Tensor, inputs: int) -> torch.Tensor:
        """Return the Cholesky root of the channels' mean covariance."""
        taps = self.side**2
        covariance = gram.view(inputs, taps, inputs, taps).diagonal(dim1=1, dim2=3).mean(-1)
        root: torch.Tensor = torch.linalg.cholesky(ridged(covariance, 1e-6))
        return root

    def kernel(self, parts: Parts) -> torch.Tensor:
        """Return the map (D, O); output o is in group o // head."""
        maps, sums, kernels = parts
        folded = torch.einsum("djit,im->djmt", kernels, sums)
        whole = torch.einsum("djmt,mdc->djct", folded, maps)
        rows: torch.Tensor = whole.reshape(-1, maps.shape[-1] * self.side**2)
        return rows.T

    def settled(self, parts: Parts, fitting: Fitting) -> list[torch.Tensor]:
        """Return the parts as they are: none of them has a closed form of its own."""
        del fitting
        return list(parts)

    def loss(self, parts: Parts, fitting: Fitting) -> torch.Tensor:
        """Return the error over the variance."""
        return fitting.loss(self.kernel(parts))

    def inherited(self, convolution: Convolution) -> list[torch.Tensor] | None:
        """Return None: `start: inherit` gives this form its weights already."""
        del convolution
        return None

    @torch.no_grad()
    def put(self, parts: Parts, bias: torch.Tensor) -> None:
        """Write the parts; attention's share is zero, for its maps are those of the convolution."""
        del bias
        module = self.module
        maps, sums, kernels = parts
        layers = (module.conv1, module.conv2, module.conv3)
        for layer, part in zip(layers, maps.split(module.head), strict=True):
            layer.weight.copy_(part[..., :-1].reshape(layer.weight.shape))
            if layer.bias is not None:
                layer.bias.copy_(part[..., -1].flatten())
        module.fc.weight.copy_(sums.view_as(module.fc.weight))
        module.dep_conv.weight.copy_(kernels.reshape(module.dep_conv.weight.shape))
        module.rate1.zero_()
        module.rate2.fill_(1)

    def mechanism(self) -> list[torch.Tensor]:
        """Return the weight of the convolution path."""
        return [self.module.rate2]

"""The linear map of the values that attention of tokens holds, where its weights stay."""

import copy

import torch

from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms.form import Parts, ridged
from modswap.nn.linear_forms.moments import Fitting
from modswap.nn.linear_forms.projected import Projected, fill_by_heads
from modswap.nn.multi_head_self_attention import MultiHeadSelfAttention

_ITERATIONS = 30
_MOST_COLUMNS = 5000  # of the moments: 384 channels and 12 heads have 4,620


class Attended(Projected):
    """The map Wo · (attention of each head) · Wv of tokens.

    Queries and keys stay, so that attention is a linear map of the values: a tap for each head
    holds the tokens as that head attends to them. The parts are Wv (C, C) and Wo (C, C), of which
    a head has C / heads rows and columns. A bias of the values adds what one of the output does.
    """

    stride = (1, 1)
    searched = 1
    biased = True
    centre = 0
    damp = 1.0  # nothing is beside the mechanism, in whose favour it could be made weaker
    iterations = _ITERATIONS

    def __init__(self, module: MultiHeadSelfAttention, *, damp: float = 1.0) -> None:
        del damp
        self.module = module
        self.channels, self.heads = module.dim, module.num_heads
        self.each = self.channels // self.heads
        self.taps = self.heads
        self.present = (self.channels + 1) * self.heads <= _MOST_COLUMNS
        self._probe: MultiHeadSelfAttention | None = None

    @torch.no_grad()
    def seen(self, maps: torch.Tensor) -> torch.Tensor:
        """Return every channel of tokens, and of ones, as each head attends to it.

        (N, C, L, 1) -> (N, (C + 1) heads, L): the values of a copy are channels of the tokens,
        those of one head after those of another.
        """
        probe = self._probe = self._probe or copy.deepcopy(self.module).eval()
        given = maps.flatten(2).transpose(1, 2).to(probe.qkv.weight.dtype)  # (N, L, C)
        found = given.new_ones(len(maps), self.channels + 1, self.heads, given.shape[1])

        def attend(values: torch.Tensor) -> torch.Tensor:
            _set_values(probe, values)
            return _before_last(probe, given).transpose(1, 2)  # (N, C, L)

        fill_by_heads(found, attend)
        return found.flatten(1, 2)

    def begin(self, fitting: Fitting) -> list[torch.Tensor]:
        """Return the best low rank of each head in the dense solution."""
        inputs = self.channels + 1
        dense = torch.linalg.solve(ridged(fitting.gram), fitting.cross)
        maps = dense.view(inputs, self.heads, -1)[:-1]
        gram = fitting.gram.view(inputs, self.heads, inputs, self.heads)[:-1, :, :-1]
        values = []
        for head in range(self.heads):
            root = torch.linalg.cholesky(ridged(gram[:, head, :, head], 1e-6))
            left = torch.linalg.svd(root.T @ maps[:, head], full_matrices=False)[0]
            values.append(torch.linalg.solve(root.T, left[:, : self.each]).T)
        return self.settled([torch.cat(values)], fitting)

    def rows(self, parts: Parts) -> torch.Tensor:
        """Return the map up to the output projection, (C, D)."""
        values = parts[0]
        head = torch.arange(self.channels) // self.each
        own = torch.nn.functional.one_hot(head, self.heads).to(values)
        whole = torch.nn.functional.pad(values, (0, 1))  # no bias
        return torch.einsum("rt,rc->rct", own, whole).flatten(1)

    def inherited(self, convolution: Convolution) -> list[torch.Tensor] | None:
        """Return None: attention is no convolution."""
        del convolution
        return None

    @torch.no_grad()
    def put(self, parts: Parts, bias: torch.Tensor) -> None:
        """Write the parts: unit rows of values, and the output projection larger by as much."""
        values, last = parts
        size = values.norm(dim=1, keepdim=True).clamp(min=1e-12)
        _set_values(self.module, values / size)
        self.module.proj.weight.copy_(last * size.T)
        self.module.proj.bias.copy_(bias)

    def mechanism(self) -> list[torch.Tensor]:
        """Return nothing: all of the module is its own mechanism."""
        return []


@torch.no_grad()
def _set_values(module: MultiHeadSelfAttention, weight: torch.Tensor) -> None:
    """Set the projection of the values, without a bias."""
    layer = module.qkv
    layer.weight[2 * module.dim :].copy_(weight)
    if layer.bias is not None:
        layer.bias[2 * module.dim :] = 0


def _before_last(probe: MultiHeadSelfAttention, given: torch.Tensor) -> torch.Tensor:
    """Return what the output projection is given, (N, L, C)."""
    found: list[torch.Tensor] = []
    handle = probe.proj.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    try:
        probe(given)
    finally:
        handle.remove()
    return found[0]

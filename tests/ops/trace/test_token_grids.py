"""Heights and widths of the maps from which tokens come."""

import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace
from modswap.ops.trace.sites import sites_of


class Patches(nn.Module):
    """A map, its tokens, and a later map of another size."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.mix = nn.Linear(8, channels)
        self.late = nn.Conv2d(3, 8, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.embed(x).flatten(2).transpose(1, 2)
        out: torch.Tensor = self.mix(tokens).sum() + self.late(x).sum()
        return out


def test_only_maps_before_a_site_with_its_channels_are_its_grids() -> None:
    model = Patches()
    seen = trace(model, Case(DummyCall((TensorInput(shape=(1, 3, 16, 24)),), {})))

    sites = {site.path: site for site in sites_of(model, (seen,))}

    assert sites["mix"].grids == ((4, 6),)
    assert sites["late"].grids == ()

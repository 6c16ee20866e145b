"""The tensors of sites, found in one walk, as torch's own walks find them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modswap.ops.trace.recorder import memory_layout
from modswap.ops.trace.sites import sites_of
from tests.models import GatedNet, SharedNet
from tests.ops.jobs.test_tree import Tied, counted


def mixed() -> nn.Module:
    """Build layers of several dtypes and memory formats, trained and frozen, some without any."""
    frozen, half = nn.Conv2d(3, 3, 2), nn.Conv2d(3, 3, 2).half()
    for one in (*frozen.parameters(), *half.parameters()):
        one.requires_grad = False
    last = nn.Conv2d(3, 3, 2)
    for conv in (frozen, last):
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    whole = nn.Identity()
    number = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    whole.register_parameter("number", number)
    return nn.Sequential(
        nn.Sequential(nn.Identity(), frozen),
        nn.Sequential(half, last),
        nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(2, 2).double())),
        whole,
    )


@pytest.mark.parametrize("make", [mixed, Tied, GatedNet, SharedNet])
def test_sites_have_the_tensors_of_all_modules_in_them(make: Callable[[], nn.Module]) -> None:
    model = make()

    sites = sites_of(model, [])

    assert [site.path for site in sites] == [path for path, _ in model.named_modules() if path]
    for site in sites:
        module = model.get_submodule(site.path)
        held = list(module.parameters())
        floating = [one.dtype for one in held if one.is_floating_point()]
        maps = [memory_layout(one) == "channels_last" for one in held if one.ndim == 4]
        assert (site.params, site.nbytes) == counted(module)
        assert f"torch.{site.dtype}" == str((*floating, torch.float32)[0])
        assert site.trainable == (not held or any(one.requires_grad for one in held))
        assert site.channels_last == (bool(maps) and all(maps))

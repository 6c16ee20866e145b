"""Heights and widths of the maps from which tokens come, in the sites of a plan."""

import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.plan import Plan, Step
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace
from modswap.ops.trace.sites import sites_of
from modswap.ops.trace.token_grids import with_grids


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


def test_sites_of_a_plan_know_the_map_of_their_tokens() -> None:
    model = Patches()
    first = Case(DummyCall((TensorInput(shape=(1, 3, 16, 24)),), {}))
    sites = sites_of(model, (trace(model, first),))
    chosen = tuple(site for site in sites if site.path in {"mix", "late"})
    rule = Rule.model_validate({"match": ["mix", "late"], "with": "ECA"})
    plan = Plan((Step(rule, ("replace", 0), "", chosen),))

    followed = with_grids(model, plan, [first], seed=0, unreal=False)
    other = with_grids(model, plan, [first, first], seed=0, unreal=True)

    assert [site.calls[0].grid("0") for site in followed.steps[0].sites] == [(4, 6), None]
    assert followed == plan
    assert other.steps[0].sites == chosen
    assert other.steps[0].sites[0].calls[0].grid("0") is None


class Counted(Patches):
    """A model that looks at a value, so that it runs on real tensors alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum().item() > -1e9 else x


def test_model_that_needs_values_is_followed_on_real_tensors() -> None:
    model = Counted()
    first = Case(DummyCall((TensorInput(shape=(1, 3, 16, 16)),), {}))
    sites = {site.path: site for site in sites_of(model, (trace(model, first),))}
    rule = Rule.model_validate({"match": ["mix"], "with": "ECA"})
    plan = Plan((Step(rule, ("replace", 0), "", (sites["mix"],)),))

    (site,) = with_grids(model, plan, [first], seed=0, unreal=False).steps[0].sites

    assert site.calls[0].grid("0") == (4, 4)

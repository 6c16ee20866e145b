"""Pairs of an old and a new module run alone.

Covers: pair, inputs, bounds, movement, training, attributes, copying,
magnitudes.
"""

import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import ShapeError
from modswap.core.finding import Finding
from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import NONE, Group, TensorInfo
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import CATALOGUE
from modswap.ops.examine.alone import sites
from modswap.ops.examine.alone.inputs import shrunk
from modswap.ops.examine.alone.pair import Pair
from modswap.ops.examine.alone.sites import _site
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.examine.table import EXAMINATIONS
from modswap.ops.swap import prepare, verified
from tests.models import GatedNet, SharedNet, TokenNet
from tests.ops.examine.swapped_blocks import (
    DIM,
    Causal,
    Counts,
    Masked,
    Maskless,
    Mixes,
    NotFinite,
    Unused,
    Wrap,
    examine,
    failed,
    here,
    recipe,
    with_mask,
)
from tests.ops.examine.test_finite import RaisesOnValues


def test_model_in_memory_is_examined_and_as_it_was_after_a_failure() -> None:
    model = Wrap(Causal())
    before = dict(model.named_modules())
    wanted = recipe(here(Unused))

    with pytest.raises(ShapeError, match="no gradient reaches 'forgotten"):
        modswap.replace(model, wanted)

    assert dict(model.named_modules()) == before
    verify = wanted.verify.model_copy(update={"skip": ("gradients",)})
    modswap.replace(model, wanted.model_copy(update={"verify": verify}))
    assert isinstance(model.block, Unused)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (Counts, {"untouched"}),
        (NotFinite, {"finite"}),
    ],
)
def test_one_fault_is_reported_by_one_check(new: type[nn.Module], told: set[str]) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)))

    assert {one.check for one in found if one.status == "failed"} == told


def test_a_model_that_takes_long_is_not_run_as_a_whole() -> None:
    model = nn.Sequential(nn.Conv2d(3, 512, 3), nn.Conv2d(512, 512, 3), nn.Identity())

    found = examine(model, recipe("SEBlock", "2", "[1, 3, 24, 24]"))

    (told, *_) = [one for one in found if not one.path]
    assert (told.status, "a run takes 950 M multiplications" in told.what) == ("skipped", True)


def test_pairs_are_made_once_for_all_examinations(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(bench: Bench, site: Site) -> Pair:
        made.append(site.path)
        return _site(bench, site)

    monkeypatch.setattr(sites, "_site", counted)

    def run() -> list[Finding]:
        model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1))
        return examine(model, recipe("SEBlock", "[12]", "[1, 3, 16, 16]"))

    found = run()

    assert made == ["1", "2"]
    monkeypatch.setattr(sites, "KEPT_BYTES", 0)
    assert run() == found
    assert len(made) > 2 + 2 * 6


def test_a_block_that_raises_on_real_values_fails_even_if_its_reporter_is_skipped() -> None:
    found = examine(Wrap(Causal()), recipe(here(RaisesOnValues)), "determinism", "finite")
    assert [(one.check, one.status) for one in found if one.path] == [
        ("determinism", "skipped"),
        ("finite", "failed"),
    ]

    skipping = recipe(here(RaisesOnValues))
    verify = skipping.verify.model_copy(update={"skip": ("finite",)})
    found = examine(
        Wrap(Causal()), skipping.model_copy(update={"verify": verify}), "determinism", "finite"
    )
    assert [(one.check, one.status) for one in found] == [("determinism", "failed")]


def test_a_block_that_raises_on_real_values_fails_once_under_the_first_examination_of_pairs() -> (
    None
):
    skipping = recipe(here(RaisesOnValues))
    verify = skipping.verify.model_copy(update={"skip": ("finite",)})

    found = examine(Wrap(Causal()), skipping.model_copy(update={"verify": verify}))

    assert failed(found) == [("gradients", "block")]
    others = [one for one in found if one.path and one.check != "gradients"]
    assert {one.check for one in others} == {
        "copies",
        "dependence",
        "independence",
        "determinism",
        "untouched",
    }
    assert {one.what for one in others} == {"it does not run on real values"}


def test_a_skipped_check_leaves_the_others() -> None:
    text = (
        "version: 1\ninputs: [{shape: [1, 6, 16]}]\nverify: {skip: [gradients, independence]}\n"
        f'replace:\n  - {{match: block, with: "{here(Mixes)}"}}\n'
    )

    found = examine(Wrap(nn.Linear(DIM, DIM)), parse_recipe(text, "swap.yaml", "."))

    names = {"copies", "dependence", "determinism", "finite", "untouched"}
    assert {one.check for one in found} == names


class Table(nn.Module):
    """Has an index table of two MiB."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1 << 18, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_a_site_that_cannot_be_run_alone_is_skipped_with_the_reason() -> None:
    found = examine(Wrap(Table()), recipe(here(Mixes)))

    at_site = [one for one in found if one.path and one.check != "copies"]
    assert {one.status for one in at_site} == {"skipped"}
    assert "its buffer 'table' holds 2097152 bytes that are not read" in at_site[0].what


def test_a_site_of_large_tensors_is_skipped_with_the_reason() -> None:
    model = Wrap(nn.Linear(DIM, DIM))

    found = examine(model, recipe(here(Mixes), shape="[1, 800000, 16]"))

    assert {one.status for one in found if one.check != "copies"} == {"skipped"}
    assert "its tensors are larger than 32 MiB" in found[0].what


def test_the_model_is_as_it_was() -> None:
    torch.manual_seed(0)
    model = Wrap(Masked(), with_mask(torch.bool)).train()
    wanted = recipe(here(Maskless))
    prepared = prepare(model, wanted)
    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, wanted)
        modules = dict(model.named_modules())
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        drawn = torch.get_rng_state(), random.getstate()

        examined(standing.verdict, bench, EXAMINATIONS)

        assert dict(model.named_modules()) == modules
        assert all(torch.equal(state[name], now) for name, now in model.state_dict().items())
        assert (torch.equal(drawn[0], torch.get_rng_state()), random.getstate()) == (True, drawn[1])
        everything = [*model.modules(), *standing.old.values()]
        assert all(one.training and not one._forward_pre_hooks for one in everything)
        assert all(p.grad is None for p in model.parameters())


def two_convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1))


SITES: list[tuple[Callable[[], nn.Module], str, str]] = [
    (GatedNet, "{space,channel}_attention", "[1, 3, 32, 32]"),
    (TokenNet, "blocks.*.attn", "[1, 3, 32, 32]"),
    (SharedNet, "first", "[1, 8, 14, 14]"),
    (two_convolutions, "1", "[2, 3, 16, 16]"),
]
QUICK = {"BiLevelRoutingAttention", "ACmix", "SelfAttention", "CBAM"}
PARAMS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CATALOGUE]


@pytest.mark.each_once
@pytest.mark.parametrize("site", range(len(SITES)))
@pytest.mark.parametrize("name", PARAMS)
def test_no_row_of_the_catalogue_raises_an_alarm(name: str, site: int) -> None:
    build, match, shape = SITES[site]
    torch.manual_seed(0)

    found = examine(build(), recipe(name, match, shape))

    assert [(one.check, one.path, one.what) for one in found if one.status != "passed"] == []


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", PARAMS)
def test_no_row_replaced_by_another_of_itself_raises_an_alarm(name: str) -> None:
    torch.manual_seed(0)
    model = GatedNet()
    wanted = recipe(name, "space_attention", "[1, 3, 32, 32]")
    examine(model, wanted)
    again = recipe(name, "space_attention", "[1, 3, 32, 32]", ", layout: NCHW")

    found = examine(model, again)

    assert [(one.check, one.path, one.what) for one in found if one.status != "passed"] == []


def test_time_is_bounded_by_work_and_not_by_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1))
    swap = recipe("SEBlock", "[12]", "[1, 3, 16, 16]")
    monkeypatch.setattr("modswap.ops.examine.alone.bounds.MAX_SITES_MACS", 30_000)

    found = examine(wide, swap)

    skipped = {one.path for one in found if "those before it" in one.what}
    assert skipped == {"2"}


def test_large_maps_are_run_small_unless_a_module_takes_their_size_alone() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 64, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    seen = Call((TensorInfo((1, 8, 64, 64)), TensorInfo((1, 8))), (), TensorInfo((1, 8, 64, 64)))
    assert str(shrunk(seen, "NCHW").args[0]) == "(1, 8, 16, 16)"
    assert shrunk(seen, None) == seen
    pair = Call((Group("list", ("0",), (TensorInfo((1, 64, 64, 8)),)),), (), NONE)
    assert str(shrunk(pair, "NHWC").args[0]) == "list[(1, 16, 16, 8)]"
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Sized(), nn.Conv2d(3, 3, 1))

    found = examine(model, recipe("SEBlock", "1", "[1, 3, 64, 64]", ", layout: NCHW"))

    assert [one.what for one in found if one.path == "1" and one.status != "passed"] == []


class Dense(nn.Module):
    """Compares every pixel of a map with every other."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(2)
        shares = (flat.transpose(1, 2) @ flat).softmax(-1)
        y: torch.Tensor = (flat @ shares).reshape(x.shape)
        return y * self.weight


def test_run_that_would_take_much_memory_is_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1))
    wanted = recipe(here(Dense), "1", "[1, 3, 91, 91]", ", layout: NCHW, wants: NCHW")

    found = [one for one in examine(model, wanted) if one.check != "copies"]
    told = {one.what for one in found if one.path == "1"}

    assert len(told) == 1
    assert "it was not run by itself: a run takes" in told.pop()

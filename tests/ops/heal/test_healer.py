"""A model is healed stage by stage, judged on samples that none learned from.

Covers: closed.fit, closed.last_layer, closed.maps, fitted, inherit, norms, passes, run,
site_errors, sites, tensors, working.
"""

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.healing import HealingRequest
from modswap.core.decided.blueprint import Adaptation
from modswap.core.errors import InputError, MatchError, UsageError
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import Healing
from modswap.core.kept.receipt import SiteRecord
from modswap.core.seen.joint import Joint
from modswap.nn import BiLevelRoutingAttention, SEBlock, SelfAttention, WindowAttention
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inherit.respelling import tensors_of
from modswap.nn.inserted_site import put_in
from modswap.nn.insertion import Insertion
from modswap.nn.linear_forms import form
from modswap.nn.linear_forms.form import LinearForm, Solution
from modswap.nn.linear_forms.moments import Fitting, Moments
from modswap.ops.apply import apply
from modswap.ops.heal import healer
from modswap.ops.heal.closed.last_layer import LastLayer, last_layer, refit
from modswap.ops.heal.fitted import changing_everywhere
from modswap.ops.heal.healer import Healed, Healer
from modswap.ops.heal.inherit import inheriting
from modswap.ops.heal.passes import Models, SiteCall
from modswap.ops.heal.run import Result
from modswap.ops.heal.samples import HeldSamples
from modswap.ops.heal.site_errors import SiteError, site_error
from modswap.ops.heal.sites import sites_to_heal
from modswap.ops.heal.working import running, taken_back, working_copy
from modswap.ops.run.inputs import Case, DummyCall
from tests.ops.heal.nets import (
    CHANNELS,
    Block,
    Classifier,
    Twice,
    classifier,
    models,
    new_module,
    pictures,
    swapped,
)

EXACT = 1e-4
SAME = Agreement("error", 1.0)


def healed(both: Models, stages: str = "inherit,closed,norms", **wishes: Any) -> Healed:
    request = HealingRequest(stages=tuple(stages.split(",")), chosen=True, **wishes)
    give = inheriting(both.original, Case(DummyCall((pictures(2),), {})))
    return Healer(both, sites_to_heal(both.original, both.model), request, give).run()


@pytest.mark.parametrize("name", ["BRA", "ACmix"])
def test_closed_form_brings_a_swapped_classifier_back(name: str) -> None:
    net = classifier()
    before = copy.deepcopy(net.state_dict())
    both = models(net, swapped(net, new_module(name)))

    found = healed(both, "closed").healing

    assert found.before.error > 0.5
    assert found.after.error < found.before.error / 3
    assert [(stage.stage, stage.kept) for stage in found.stages] == [("closed", True)]
    (site,) = found.sites
    assert site.path == "mix"
    assert site.after < site.before / 5
    assert any("of the variance" in note for note in site.notes)
    assert {control.name for control in found.controls} >= {"dropped", "shifted by one pixel"}
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_closed_form_goes_through_an_adapter_that_projects_and_pools() -> None:
    torch.manual_seed(0)
    old = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), nn.Conv2d(CHANNELS, 6, 1))
    net = swapped(classifier(), old)
    net.norm, net.head = nn.BatchNorm2d(6).eval(), nn.Linear(6, 5)
    adaptation = Adaptation(CHANNELS, 6, (2, 2))
    adapter = SiteAdapter(new_module("BRA"), layout="NCHW", wants="NCHW", adaptation=adaptation)
    both = models(net, swapped(net, adapter.eval()))

    (site,) = healed(both, "closed").healing.sites

    assert site.after < site.before / 5
    assert any("of the variance" in note for note in site.notes)
    assert site.share is not None
    assert site.share > 0


def test_attention_stays_in_play_unless_it_is_damped() -> None:
    net = classifier()
    shares = []
    for damp in (1.0, 100.0):
        both = models(net, swapped(net, new_module("BRA")))
        shares.append(healed(both, "closed", damp=damp).healing.sites[0])
    assert shares[0].share is not None
    assert shares[1].share is not None
    assert shares[0].share > 10 * shares[1].share
    assert any("the old module in another form" in note for note in shares[1].notes)
    assert not any("in another form" in note for note in shares[0].notes)


@pytest.mark.parametrize("name", ["BRA", "ACmix"])
def test_depthwise_convolution_is_inherited(name: str) -> None:
    net = classifier(depthwise=True)
    both = models(net, swapped(net, new_module(name)))

    found = healed(both, "inherit", damp=1e4).healing

    assert found.after.error < EXACT
    assert "it inherits from the old module" in found.sites[0].notes


def test_closed_form_of_a_depthwise_convolution_is_the_better_of_two() -> None:
    net = classifier(depthwise=True)
    errors = []
    for damp in (1.0, 1e4):
        both = models(net, swapped(net, new_module("BRA")))
        found = healed(both, "closed", damp=damp).healing
        errors.append(found.sites[0].after)
        assert found.sites[0].after < found.sites[0].before / 3
    assert errors[1] < EXACT


def test_stage_that_is_taken_back_leaves_no_notes() -> None:
    net = classifier(depthwise=True)
    both = models(net, swapped(net, copy.deepcopy(net.mix)))
    both.model.mix.__class__ = type("Other", (nn.Conv2d,), {})
    with torch.no_grad():
        both.model.mix.weight.mul_(1.001)  # type: ignore[union-attr,operator] # as above
    give = Healer(
        both,
        sites_to_heal(net, both.model),
        HealingRequest(stages=("inherit",), chosen=True),
        inherit=lambda site: not nn.init.zeros_(site.learned.weight).any(),  # type: ignore[arg-type] # it has one
    )
    found = give.run().healing
    assert [stage.kept for stage in found.stages] == [False]
    assert found.sites[0].notes == ()
    assert bool(both.model.mix.weight.any())  # type: ignore[union-attr,operator] # it has one


def test_nothing_is_inherited_by_a_module_of_another_kind() -> None:
    net = classifier()
    both = models(net, swapped(net, SEBlock(CHANNELS).eval()))
    result = healed(both)
    inherit, closed, _ = result.healing.stages
    assert (inherit.kept, inherit.note) == (False, "")
    assert (closed.kept, closed.note) == (False, "")


def test_norms_are_estimated_again_where_that_helps() -> None:
    net = classifier()
    other: Any = copy.deepcopy(net)
    other.mix = copy.deepcopy(net.mix)
    other.mix.__class__ = type("Other", (nn.Conv2d,), {})
    with torch.no_grad():
        other.mix.weight.mul_(3)
        other.mix.bias.mul_(3).add_(1)
    batches = int(other.norm.num_batches_tracked)

    result = healed(models(net, other), "norms")

    (stage,) = result.healing.stages
    assert stage.kept
    assert stage.note == "the statistics of 1 batch norm estimated again"
    assert result.changed == ("mix", "norm")
    assert result.healing.after.value > result.healing.before.value
    assert (other.norm.training, int(other.norm.num_batches_tracked)) == (False, batches)


def test_norms_stay_where_it_does_not_help() -> None:
    net = classifier()
    both = models(net, swapped(net, new_module("BRA")))
    healed(both, "closed")
    before = copy.deepcopy(both.model.norm.state_dict())  # type: ignore[union-attr] # it has one
    result = healed(both, "norms", seed=1)
    if not result.healing.stages[0].kept:
        for key, value in both.model.norm.state_dict().items():  # type: ignore[union-attr] # it has
            assert torch.equal(value, before[key])
        assert result.changed == ()


def test_exact_swap_has_nothing_to_heal() -> None:
    net = classifier()
    other = copy.deepcopy(net)
    other.mix.__class__ = type("Same", (nn.Conv2d,), {})
    result = healed(models(net, other))
    assert result.healing.exact
    assert result.changed == ()
    assert "there is nothing to heal" in result.healing.notes[-1]


def test_few_samples_are_refused() -> None:
    net = classifier()
    with pytest.raises(InputError, match="31 samples"):
        healed(models(net, swapped(net, new_module("BRA")), 31))


def test_more_places_than_a_map_needs_are_left_to_the_last_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modswap.ops.heal.closed.fit._SAMPLES", 40)
    monkeypatch.setattr("modswap.ops.heal.closed.fit.PLACES", 2)
    counts: list[int] = []
    solved = form.solve

    def solve(held: LinearForm, fitting: Fitting) -> Solution:
        counts.append(moments[-1].count)
        return solved(held, fitting)

    moments: list[Moments] = []

    def make(*sizes: int) -> Moments:
        moments.append(Moments(*sizes))
        return moments[-1]

    monkeypatch.setattr("modswap.ops.heal.closed.fit.Moments", make)
    monkeypatch.setattr("modswap.ops.heal.closed.fit.solve", solve)
    net = classifier()
    both = models(net, swapped(net, new_module("ACmix")))
    found = healed(both, "closed").healing
    assert counts == [40 * 64]
    assert found.after.error < found.before.error / 3


def test_more_samples_than_a_last_layer_needs_are_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modswap.ops.heal.closed.fit._SAMPLES", 8)
    monkeypatch.setattr("modswap.ops.heal.closed.fit.PLACES", 80)
    counts: list[int] = []

    def noted(module: nn.Module, last: LastLayer, calls: Iterable[SiteCall]) -> None:
        given = list(calls)
        counts.append(sum(len(call.target) for call in given))
        refit(module, last, given)

    monkeypatch.setattr("modswap.ops.heal.closed.fit.refit", noted)
    net = classifier()
    both = models(net, swapped(net, new_module("BRA")))
    found = healed(both, "closed").healing
    assert counts == [-(-80 * (CHANNELS + 1) // 64)]  # of 64 places each
    assert found.after.error < found.before.error / 3


def test_a_site_is_run_for_its_error_once_before_and_once_behind_a_closed_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares: list[bool] = []

    def noted(*args: Any, shared: bool) -> SiteError:
        shares.append(shared)
        return site_error(*args, shared=shared)

    monkeypatch.setattr(healer, "site_error", noted)
    net = classifier()
    found = healed(models(net, swapped(net, new_module("BRA"))), "closed").healing
    assert shares == [False, False, True]  # at first, behind the form, and at the end
    assert found.sites[0].share is not None


def test_a_share_above_one_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    net = classifier()
    monkeypatch.setattr(healer, "site_error", lambda *_, **__: SiteError(1.0, 2.5))
    found = healed(models(net, swapped(net, new_module("BRA"))), "norms").healing
    assert found.sites[0].share == 2.5
    assert any("varies more than its output" in note for note in found.sites[0].notes)


def test_result_repeats_to_the_bit() -> None:
    states = []
    for _ in range(2):
        net = classifier()
        both = models(net, swapped(net, new_module("BRA")))
        healed(both, "closed")
        states.append(tensors_of(both.model))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# -- sites


def test_models_of_the_same_classes_have_nothing_to_heal() -> None:
    net = classifier()
    with pytest.raises(UsageError, match="there is nothing to heal"):
        sites_to_heal(net, copy.deepcopy(net))


def test_receipt_says_the_sites_and_all_their_paths() -> None:
    net = classifier()
    other = swapped(net, new_module("BRA"))
    record = SiteRecord(paths=("mix", "also"), module="BiLevelRoutingAttention", args={})
    (site,) = sites_to_heal(net, other, [record])
    assert (site.path, site.paths, site.old) == ("mix", ("mix", "also"), net.mix)
    with pytest.raises(MatchError, match="the original has no module 'mix'"):
        sites_to_heal(nn.Sequential(nn.ReLU()), other, [record])


def test_module_put_in_beside_is_learned_alone() -> None:
    net = classifier()
    other = copy.deepcopy(net)
    put_in(other.mix, "eca", Insertion(SEBlock(CHANNELS), Joint("after", "add", CHANNELS, 2)))
    record = SiteRecord(paths=("mix.eca",), module="SEBlock", args={})
    (site,) = sites_to_heal(net, other, [record])
    assert (site.path, site.paths) == ("mix", ("mix.eca.module",))
    assert isinstance(site.inner, SEBlock)
    assert not site.replaces
    assert site_error(models(net, other), site, range(20)).error < EXACT  # behind gates of 0


def test_module_behind_an_adapter_is_healed_in_the_sites_layout() -> None:
    net = classifier()
    torch.manual_seed(1)
    inner = BiLevelRoutingAttention(CHANNELS, 2, 2, topk=2)
    adapter = SiteAdapter(inner, layout="NCHW", wants="NHWC").eval()
    both = models(net, swapped(net, adapter))
    found = healed(both, "closed").healing
    assert found.after.error < found.before.error / 3


def test_site_that_is_called_twice_learns_from_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.mix: nn.Module = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.mix(x)
            return self.mix(x.relu()).mean((2, 3))  # type: ignore[no-any-return] # a layer's output

    net = Twice().eval()
    other = swapped(net, new_module("BRA"))
    samples = HeldSamples((torch.randn(60, CHANNELS, 8, 8),))
    both = Models(net, other, samples, size=20)
    (site,) = sites_to_heal(net, other)
    with torch.no_grad():
        assert len(both.observed(site, range(4))) == 2
    found = healed(both, "closed").healing
    assert found.after.error < found.before.error / 2


# -- the last layer


@pytest.mark.parametrize("layout", ["tokens", "map", "flattened"])
def test_last_layer_is_found_by_the_places_of_its_values(layout: str) -> None:
    torch.manual_seed(0)
    block, x = Block(layout), torch.randn(30, 3, 2, 4)
    wanted = Block(layout)
    wanted.first.load_state_dict(block.first.state_dict())
    call = SiteCall((x,), {}, wanted(x).detach())
    last = last_layer(block, call)
    assert last is not None
    assert last.path == "last"
    refit(block, last, [call], ridge=1e-9)
    assert torch.allclose(block(x), wanted(x), atol=1e-4)


def test_layer_whose_output_changes_further_is_not_the_last() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert last_layer(module, SiteCall((torch.randn(3, 4),), {}, None)) is None
    normed = SelfAttention(8, 2).eval()  # a layer norm is behind its last layer
    assert last_layer(normed, SiteCall((torch.randn(2, 5, 8),), {}, None)) is None


def test_last_layer_inside_windows_is_refitted_place_by_place() -> None:
    torch.manual_seed(0)
    module, x = WindowAttention(4, window_size=2, num_heads=2).eval(), torch.randn(6, 3, 5, 4)
    wanted = copy.deepcopy(module)
    with torch.no_grad():
        wanted.proj.weight.mul_(-2)
        wanted.proj.bias.add_(1)
        call = SiteCall((x,), {}, wanted(x))
    last = last_layer(module, call)
    assert last is not None
    refit(module, last, [], ridge=1e-9)  # without a call it stays
    assert torch.equal(module.proj.weight, wanted.proj.weight / -2)
    refit(module, last, [call], ridge=1e-9)
    assert torch.allclose(module(x), call.target, atol=1e-4)


# -- copies


def test_working_copy_shares_what_does_not_change() -> None:
    net = classifier()
    request = HealingRequest()
    copied: Any = working_copy(net, [net.mix], request)
    assert copied.stem[0].weight is net.stem[0].weight
    assert copied.mix.weight is not net.mix.weight
    assert copied.norm.running_mean is not net.norm.running_mean
    assert running(net, request) is net
    whole: Any = working_copy(net, [net.mix], HealingRequest(everything=True))
    assert whole.stem[0].weight is not net.stem[0].weight


def test_half_precision_is_healed_in_single_and_written_in_its_own() -> None:
    net = classifier().half()
    request = HealingRequest()
    copied: Any = working_copy(net, [net.mix], request)
    assert copied.mix.weight.dtype is torch.float32
    assert running(net, request).get_submodule("mix") is not net.mix
    back: Any = taken_back(copied.mix, net.mix)
    assert back.weight.dtype is torch.float16
    assert torch.equal(back.weight, net.mix.weight)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        working_copy(classifier(), [], HealingRequest(device="nonsense"))


def test_each_of_several_random_modules_is_judged_before_the_old_ones_behind_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model = copy.deepcopy(net)
    for place in (0, 2, 4):
        model[place] = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 6))
    both = Models(net.eval(), model.eval(), HeldSamples((torch.randn(160, 6),)))

    found = healed(both, "fit", steps=150, metric="error").healing

    assert found.after.value > 0.9
    assert all(site.after < 0.15 < site.before for site in found.sites)


# -- what must not come apart, and what is not there


def test_norm_with_two_names_is_built_under_both() -> None:
    net = Twice().eval()
    other: Any = copy.deepcopy(net)
    result = Result(Healing("", 0, 0, SAME, SAME, 1.0), copy.deepcopy(other), ("norm",), ())
    with torch.no_grad():
        result.copy.get_submodule("norm").running_mean.add_(1)  # type: ignore[operator] # it has one
    (built,) = result.built(other)
    assert built.paths == ("norm", "again")
    apply(other, [(built.paths, built.module)])
    assert other.norm is other.again
    assert torch.equal(other.norm.running_mean, torch.ones(CHANNELS))


def test_tied_weights_refuse_that_all_change() -> None:
    net: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    with pytest.raises(UsageError, match="share a tensor"):
        changing_everywhere(net, ())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_precisions_are_healed(dtype: torch.dtype) -> None:
    net = classifier().to(dtype)
    other = swapped(net, new_module("BRA").to(dtype))
    inputs = [(2, 3, 8, 8)]
    found = modswap.heal(
        other, against=net, data=[pictures().to(dtype)], inputs=inputs, stages="closed"
    ).healing
    assert found is not None
    assert found.after.error < found.before.error / 3
    assert {parameter.dtype for parameter in other.parameters()} == {dtype}


def test_models_that_call_a_site_otherwise_are_refused() -> None:
    class Once(Twice):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.head(self.mix(self.mix(self.stem(x))).mean((2, 3)))
            return y

    net = Once().eval()
    other = swapped(net, new_module("BRA"))
    other.__class__ = Classifier
    with pytest.raises(InputError, match="the original calls it 2 times, the swapped model 1"):
        healed(models(net, other))


def test_site_that_is_not_reached_is_named() -> None:
    net = classifier()
    net.add_module("idle", nn.Conv2d(3, 3, 1))
    other = swapped(net, new_module("ACmix"))
    other.idle = nn.Identity()
    both = models(net, other)
    assert "the samples do not reach idle" in " ".join(healed(both, "closed").healing.notes)
    other.mix = net.mix
    with pytest.raises(InputError, match="no new module is called"):
        healed(both, "closed")


def test_module_that_gives_no_numbers_is_healed() -> None:
    net = classifier()
    other = swapped(net, new_module("ACmix"))
    with torch.no_grad():
        other.mix.conv1.weight.fill_(float("nan"))
    found = healed(models(net, other), "closed").healing
    assert found.sites[0].after < 1
    assert found.stages[0].kept


def test_gradients_of_the_users_model_stay() -> None:
    net = classifier()
    other = swapped(net, new_module("ACmix"))
    other.stem[0].weight.grad = torch.ones_like(other.stem[0].weight)
    data, inputs = [pictures()], [(2, 3, 8, 8)]
    modswap.heal(other, against=net, data=data, inputs=inputs, stages=("fit",), steps=2)
    assert bool((other.stem[0].weight.grad == 1).all())


def test_module_that_the_original_holds_too_is_not_changed() -> None:
    net = classifier()
    module = new_module("ACmix")
    other = swapped(net, module)
    net.add_module("kept", module)
    with pytest.raises(UsageError, match="shares 'mix' with the original"):
        modswap.heal(other, against=net, data=[pictures()], inputs=[(2, 3, 8, 8)], stages="closed")


def test_insertion_without_a_receipt_is_a_site() -> None:
    net = classifier()
    other = copy.deepcopy(net)
    put_in(other.mix, "eca", Insertion(SEBlock(CHANNELS), Joint("after", "add", CHANNELS, 2)))
    (site,) = sites_to_heal(net, other)
    assert (site.path, site.paths, site.replaces) == ("mix", ("mix.eca.module",), False)


@pytest.mark.parametrize(
    "wishes", [{"batch": 0}, {"steps": "5"}, {"damp": 0.5}, {"until": 2.0}, {"stages": ("closd",)}]
)
def test_wrong_wish_of_a_caller_is_refused(wishes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        HealingRequest(**wishes)
    assert HealingRequest(stages=("norms", "closed")).stages == ("closed", "norms")


@pytest.mark.parametrize("at", ["best_estimate", "site_error"])
def test_ctrl_c_at_any_place_leaves_what_is_reported(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = classifier()
    both = models(net, swapped(net, new_module("BRA")))
    real, calls = getattr(healer, at), list[int]()

    def stop(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        calls.append(1)
        if at == "best_estimate" or len(calls) == 3:  # the last is behind all stages
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(healer, at, stop)
    before = copy.deepcopy(both.model.norm.state_dict())  # type: ignore[union-attr] # it has one
    found = healed(both, "closed,norms" if at == "best_estimate" else "closed").healing
    assert found.interrupted
    assert any("broken off" in note for note in found.notes)
    for key, value in both.model.norm.state_dict().items():  # type: ignore[union-attr] # as above
        assert torch.equal(value, before[key])


def test_a_swapped_model_that_does_not_take_the_samples_is_refused_in_one_line() -> None:
    class Refusing(nn.Conv2d):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise ValueError("'attention_mask' is not used here")

    net = classifier()
    both = models(net, swapped(net, Refusing(CHANNELS, CHANNELS, 3, padding=1)))

    with pytest.raises(InputError, match=r"the swapped model not: ValueError.*not used here"):
        healed(both)


@pytest.mark.parametrize(("near", "begun"), [(0.0, set()), (1e9, {"mix"})])
def test_fit_begins_anew_behind_a_closed_form_that_is_far_from_the_old_module(
    monkeypatch: pytest.MonkeyPatch, near: float, begun: set[str]
) -> None:
    monkeypatch.setattr("modswap.ops.heal.healer._NEAR", near)
    net = classifier()
    both = models(net, swapped(net, new_module("BRA")))
    request = HealingRequest(stages=("closed",), chosen=True)
    healer = Healer(both, sites_to_heal(net, both.model), request)
    assert healer.run().healing.stages[0].kept
    assert healer.fits.begun == begun

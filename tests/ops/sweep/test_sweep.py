"""The trials of a sweep on small networks.

Covers: bench, blocks, call, calls, costs, recoverability, together, trial.
"""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.healing import HealingRequest
from modswap.core.errors import InputError, UsageError
from modswap.core.swept.choice import ChoiceRequest, choose
from modswap.core.swept.record import SiteTrial
from modswap.live_values import named_tensors
from modswap.ops.heal.data.taker import Taker
from modswap.ops.heal.measures.passes import still
from modswap.ops.heal.passes import Models
from modswap.ops.heal.samples import Batch
from modswap.ops.heal.site_errors import site_error
from modswap.ops.heal.sites import sites_to_heal
from modswap.ops.rule_call import recipe_of_call
from modswap.ops.run.inputs import calls_of
from modswap.ops.sweep.bench import SweepWishes, TrialBench, bench_of, block_site
from modswap.ops.sweep.blocks import blocks_of
from modswap.ops.sweep.calls import KeptCalls
from modswap.ops.sweep.costs import added_latency
from modswap.ops.sweep.recoverability import _errors
from modswap.ops.sweep.sweep import in_order, run_trials
from modswap.ops.sweep.together import measured_together, recipe_of_choice
from modswap.ops.sweep.trial import heal_trial, run_trial, swapped
from tests.ops.heal.nets import Twice, classifier, models, new_module, pictures
from tests.ops.heal.nets import swapped as with_module

SHAPE = (2, 3, 8, 8)


def bench(net: nn.Module, match: Any = "mix", with_: str = "ACmix", **wishes: Any) -> TrialBench:
    recipe = recipe_of_call({"match": match, "with_": with_}, [SHAPE])
    wanted = SweepWishes(recipe, [pictures()], HealingRequest(samples=96, **wishes))
    return bench_of(Taker(net, calls_of(recipe.inputs)[0]), wanted)


def test_trial_is_measured_and_leaves_the_model_as_it_was() -> None:
    net = classifier()
    before = {name: tensor.clone() for name, tensor in named_tensors(net).items()}
    made = bench(net)

    result = run_trial(made, made.trials()[0])

    assert result.holds
    assert result.how == "inherited"  # by a part: it holds few maps
    assert result.block == ""  # the network itself
    assert result.error is not None
    assert 0 < result.error < 1
    assert result.added is not None
    swapped_net = with_module(net, new_module("ACmix"))
    counts = [sum(p.numel() for p in one.parameters()) for one in (net, swapped_net)]
    assert made.before.params == counts[0]
    assert result.added.flops > 0
    after = named_tensors(net)
    assert all(torch.equal(before[name], after[name]) for name in before)
    for model in (net, made.models.model):
        assert type(model.get_submodule("mix")) is nn.Conv2d


def test_error_is_that_of_the_outputs_with_the_fitted_module_in_the_model() -> None:
    """By hand: the same module, the outputs of the whole network on the held-out samples."""
    made = bench(classifier())
    trial = made.trials()[0]
    with swapped(made, trial) as site, still(made.models.original, made.models.model):
        x = made.models.samples.batch(made.held).args[0]
        with torch.no_grad():
            old, new = made.models.original(x), made.models.model(x)
        error = (new - old).square().sum() / (old - old.mean(0)).square().sum()
        found = _errors(made.models, (), made.held)[0]
        assert _errors(made.models, (), made.held)[0] == found  # by the outputs that were kept
        places = site, block_site(made, site)
        alone = [site_error(made.models, one, made.held).error for one in places]
        error, at_places = _errors(made.models, places, made.held)
        assert error == found
        assert at_places == pytest.approx(alone, rel=1e-6)
    assert found == pytest.approx(float(error), rel=1e-4)
    result = run_trial(made, trial)
    assert result.error is not None
    assert result.error < found  # it was fitted since


def test_errors_at_the_block_and_the_site_are_beside_it() -> None:
    made = bench(classifier(), "stem.0")

    result = run_trial(made, made.trials()[0])

    assert result.block == "stem"
    errors = [result.error, result.at_block, result.at_site]
    assert None not in errors
    assert len({*errors}) == 3


def test_outputs_without_room_are_computed_again() -> None:
    made = bench(classifier())
    made.models.room = 0

    with swapped(made, made.trials()[0]), still(made.models.original, made.models.model):
        errors = [_errors(made.models, (), made.held)[0] for _ in range(2)]

    assert errors[0] == errors[1] > 0


def test_trials_run_in_order_and_those_that_are_done_are_not_run_again() -> None:
    made = bench(classifier(), ["stem.0", "mix"])
    trials = made.trials()
    done = {trials[1].key: run_trial(made, trials[1])}
    ran = []

    def take(result: Any) -> None:
        ran.append(result)
        done[result.trial.key] = result

    run_trials(made, trials, done, take)

    assert [one.trial for one in ran] == [trials[0]]
    assert [one.trial.site for one in in_order(trials, done)] == ["stem.0", "mix"]
    again = run_trial(made, trials[1])
    assert again.error == done[trials[1].key].error  # by the same seed


def test_trial_that_does_not_hold_has_the_reason() -> None:
    made = bench(classifier(), "stem.0", "BiLevelRoutingAttention")

    result = run_trial(made, made.trials()[0])

    assert not result.holds
    assert "(2, 3, 8, 8)" in result.reason
    assert result.fix
    wrong = run_trial(made, SiteTrial("stem.0", "BRA", {"heads": 3}))
    assert "no argument 'heads'" in wrong.reason


def test_module_whose_output_is_not_finite_is_not_measured(monkeypatch: Any) -> None:
    made = bench(classifier())
    monkeypatch.setattr("modswap.ops.sweep.recoverability.isfinite", lambda _: False)

    result = run_trial(made, made.trials()[0])

    assert (result.holds, result.reason) == (
        False, "its outputs are not finite, or of another shape",
    )  # fmt: skip


def test_healed_trial_has_the_agreement_of_the_model() -> None:
    made = bench(classifier(), stages=("closed",))
    result = run_trial(made, made.trials()[0])

    healed = heal_trial(made, result)

    assert healed.error == result.error
    assert healed.healed is not None
    assert healed.healed.value > 0.5
    assert healed.healing_seconds > 0


def test_too_few_samples_are_refused() -> None:
    recipe = recipe_of_call({"match": "mix", "with_": "ECA"}, [SHAPE])
    wanted = SweepWishes(recipe, [pictures(31)], HealingRequest())

    with pytest.raises(InputError, match="31"):
        bench_of(Taker(classifier(), calls_of(recipe.inputs)[0]), wanted)


def test_chosen_modules_are_measured_together_and_taken_out_again() -> None:
    made = bench(classifier(), ["mix", "stem.0"])
    results = [run_trial(made, trial) for trial in made.trials()]
    choice = choose(made.before, [one for one in results if one.holds], ChoiceRequest(1))

    recipe = recipe_of_choice(made, choice)
    found = measured_together(made, choice, recipe)

    assert found.together is not None
    assert found.together.params == found.cost.params
    assert recipe.replace[0].expect == 1
    assert type(made.models.model.get_submodule("mix")) is nn.Conv2d


def test_sweep_from_python_chooses_under_a_budget() -> None:
    net = classifier()
    wishes: dict[str, Any] = {"inputs": [SHAPE], "samples": 64, "args": {"n_win": 2}}
    params = sum(p.numel() for p in net.parameters())

    found = modswap.sweep(
        net,
        match="mix",
        with_=["BRA", "ACmix"],
        data=[pictures()],
        grid={"topk": (1, 3)},
        choose="1+",
        max_params=params,
        **wishes,
    )

    assert len(found.ranked) == 3
    assert found.choice is not None
    assert found.choice.cost.params <= params
    assert "with: " in found.recipe
    with pytest.raises(UsageError, match="max_flops: nothing is to be chosen; add choose=3"):
        modswap.sweep(net, match="mix", with_="ECA", data=[pictures()], max_flops=1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"choose": 1, "max_params": "25X"}, "max_params: '25X' is no number"),
        ({"choose": 3}, "3 sites are to be chosen, and the rule selects 1"),
        ({"grid": {"gamma": 4}}, "'gamma' has 4 in the place of a list of values"),
        ({"grid": {"gamma": "48"}}, "'gamma' has '48' in the place of a list"),
        ({"start": "preserve"}, "begin fresh or inherit, not 'preserve'"),
    ],
)
def test_wrong_wish_is_refused_before_anything_is_tried(
    more: dict[str, Any], message: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("modswap.ops.sweep.call.run_trials", None)

    with pytest.raises(UsageError, match=message):
        modswap.sweep(
            classifier(), match="mix", with_="ECA", data=[pictures()], inputs=[SHAPE], **more
        )


class Wrapped(nn.Module):
    """A block in a container that only passes its output on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.body(x)
        return y


def test_block_is_the_nearest_module_that_computes_more() -> None:
    net = nn.Sequential(Wrapped(), nn.Flatten(), nn.Linear(12, 2))
    batch = Batch((torch.randn(2, 3, 2, 2),))

    found = blocks_of(net, batch, ["0.body.0.0", "0.body", "2"])

    assert found == {"0.body.0.0": "0.body", "0.body": "0", "2": ""}


def test_kept_calls_are_those_that_both_models_see() -> None:
    net = classifier()
    pair = models(net, with_module(net, new_module("BRA")))
    kept = KeptCalls(pair.original, pair.model, pair.samples, pair.size)
    (site,) = sites_to_heal(net, pair.model)
    runs = []
    net.stem.register_forward_pre_hook(lambda *_: runs.append(1))

    for _ in range(2):
        (mine,) = kept.observed(site, [1, 4])
        (theirs,) = Models.observed(pair, site, [1, 4])
        assert torch.equal(mine.args[0], theirs.args[0])
        assert torch.equal(mine.target, theirs.target)
    assert len(runs) == 1 + 2  # once for both, and each time without it
    kept.begin("mix")
    kept.room = 0
    for _ in range(2):
        kept.observed(site, [1, 4])
    assert len(runs) == 3 + 2


def test_module_that_runs_twice_is_observed_in_both_models() -> None:
    net = Twice().eval()
    other: Any = copy.deepcopy(net)
    other.norm = other.again = nn.Identity()
    kept = KeptCalls(net, other, models(net, other).samples)
    (site,) = sites_to_heal(net, other)

    first, second = kept.observed(site, [0, 1])

    assert torch.equal(second.args[0], first.args[0])  # the identity gave it
    assert not torch.equal(second.args[0], first.target)


def test_latency_is_the_difference_of_both_modules() -> None:
    small, large = nn.Linear(4, 4), nn.Sequential(*(nn.Linear(512, 512) for _ in range(8)))
    wide = nn.Sequential(nn.Linear(512, 4), small, nn.Linear(4, 512))
    calls: list[Any] = [((torch.randn(256, 512),), {})]

    assert added_latency(wide, large, calls) > 0 > added_latency(large, wide, calls)

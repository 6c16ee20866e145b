"""The fit of one module at its site.

Covers: loop.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import FitProgress
from modswap.ops.heal.fitting.local import LocalFit, fit_local, judged_with_old
from modswap.ops.heal.fitting.pace import Pace, Watch, unwatched
from modswap.ops.heal.fitting.stored import Room
from tests.ops.heal.fitting.learners import COUNT, PACE, X, Y, fit_of, judged, learner, pairs


def state(module: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def test_a_module_learns_what_the_old_one_gave() -> None:
    module = learner()
    seen = list[FitProgress]()

    found = fit_local(fit_of(module), Pace(150, batch=16, rate=2e-2), Watch(seen.append))

    assert found.before is not None
    assert found.after is not None
    assert found.before.error > 0.9
    assert found.after.error < 0.1
    assert judged(module) == found.after
    assert (found.stage, found.site, found.steps, found.ended) == ("fit", "site", 150, "all steps")
    assert found.loss < 0.5
    assert found.targets == "inputs and targets computed in step"
    assert [each.step for each in seen] == list(range(10, 151, 10))
    assert seen[-1].seconds_left == 0
    assert seen[-1].samples_per_second > 0
    assert seen[-1].agreement == found.after
    assert unwatched(seen[0]) is None  # type: ignore[func-returns-value] # it passes over it


def test_a_fit_repeats_to_the_same_bits_and_differs_by_seed() -> None:
    def fitted(pace: Pace) -> list[torch.Tensor]:
        module = learner()
        fit_local(fit_of(module), pace)
        return state(module)

    first = fitted(PACE)

    torch.manual_seed(99)  # a seed of the caller changes nothing
    assert all(map(torch.equal, first, fitted(PACE)))
    assert not torch.equal(first[0], fitted(Pace(40, batch=16, seed=4, rate=2e-2))[0])


def test_flags_and_gradients_are_as_before_and_the_rest_does_not_learn() -> None:
    around = nn.Sequential(nn.BatchNorm1d(6), learner()).train()
    around[1].eval()
    around[1].last.bias.requires_grad_(False)  # type: ignore[union-attr] # as the host set it
    rest = state(around[0])

    fit_local(LocalFit("site", around, around[1], pairs, range(COUNT)), Pace(5))

    assert [module.training for module in around.modules()] == [True, True, *[False] * 5]
    assert all(map(torch.equal, rest, state(around[0])))
    assert [each.requires_grad for each in around.parameters()] == [*[True] * 7, False]
    assert all(each.grad is None for each in around.parameters())


def test_the_best_state_is_kept_and_a_fit_that_only_harms_changes_nothing() -> None:
    module = learner()
    before = state(module)
    values = iter([0.9, *[0.5] * 20])

    found = fit_local(
        LocalFit("site", module, module, pairs, range(COUNT), lambda: Agreement("x", next(values))),
        Pace(40, every=2, patience=3),
    )

    assert (found.ended, found.steps) == ("no improvement", 6)
    assert found.after == found.before == Agreement("x", 0.9)
    assert all(map(torch.equal, before, state(module)))


def test_a_fit_ends_at_its_goal() -> None:
    module = learner()

    found = fit_local(fit_of(module), Pace(400, batch=16, rate=2e-2, every=5, goal=0.5))

    assert found.ended == "the goal"
    assert found.steps < 400
    assert found.after is not None
    assert found.after.value >= 0.5
    again = fit_local(fit_of(module), Pace(400, goal=0.5))
    assert (again.steps, math.isnan(again.loss)) == (0, True)


def test_a_fit_has_fewer_steps_where_the_time_is_short() -> None:
    found = fit_local(fit_of(learner()), Pace(100_000, batch=16, every=100_000, seconds=0.1))

    assert found.ended == "the time is over"
    assert 10 <= found.steps < 100_000


def test_a_loss_that_is_not_finite_ends_a_fit_and_the_state_before_is_kept() -> None:
    module = learner()
    before = state(module)
    fit = LocalFit("site", module, module, lambda ix: [((X[ix] * math.inf,), {}, Y[ix])], range(60))

    found = fit_local(fit, Pace(50))

    assert (found.ended, found.steps) == ("the loss is not finite", 10)
    assert all(map(torch.equal, before, state(module)))


class Twice(nn.Module):
    """A module with keyword inputs that returns a pair."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.map = nn.Linear(6, width)

    def forward(self, *, x: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, self.map(x)


@pytest.mark.parametrize("cosine", [0.0, 1.0])
def test_every_call_of_a_site_counts_and_its_first_floating_tensor(cosine: float) -> None:
    torch.manual_seed(0)
    module = Twice()

    def calls(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
        x, y = X[indices], Y[indices]
        return [((), {"x": x}, (torch.arange(3), y)), ((), {"x": -x}, (None, -y))]

    found = fit_local(
        LocalFit("site", module, module, calls, range(COUNT)),
        Pace(200, batch=16, rate=5e-2, cosine=cosine),
    )

    assert found.loss < 0.1
    assert (found.before, found.after) == (None, None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(60, 3), r"site: output was \(60, 3\), is now \(60, 4\)"),
        (torch.zeros(60, dtype=torch.long), "site: it gives no floating tensor to learn from"),
    ],
)
def test_other_outputs_are_refused(target: torch.Tensor, message: str) -> None:
    module = learner()
    fit = LocalFit("site", module, module, lambda ix: [((X[ix],), {}, target)], range(60))

    with pytest.raises(ShapeError, match=message):
        fit_local(fit, Pace(3))

    assert all(each.grad is None for each in module.parameters())


@pytest.mark.parametrize("room", [Room(), Room(1 << 20), "folder"])
def test_kept_targets_give_the_same_bits(room: Any, tmp_path: Path) -> None:
    room = Room(0, tmp_path) if room == "folder" else room
    module, other = learner(), learner()

    found = fit_local(fit_of(module), PACE, room=room)
    fit_local(fit_of(other), PACE)

    assert all(map(torch.equal, state(module), state(other)))
    expected = "kept in memory" if room.nbytes else "temporary file" if room.folder else "in step"
    assert expected in found.targets
    assert list(tmp_path.iterdir()) == []


def test_a_module_before_one_of_random_weights_is_judged_with_the_old_one_there() -> None:
    torch.manual_seed(0)
    old = nn.Linear(4, 4)
    model = nn.Sequential(learner(), nn.Linear(4, 4))
    later = model[1]

    def judge() -> Agreement:
        with torch.no_grad():
            error = float((model(X) - old(Y)).pow(2).mean() / old(Y).var())
        return Agreement("explained variance", 1 - error, error=error)

    fit = LocalFit("0", model[0], model[0], pairs, range(COUNT))
    judged = judged_with_old(model, [(("1",), old)], judge)
    blind, seeing = (
        fit_local(replace(fit, judge=each), Pace(60, batch=16, rate=2e-2, patience=9)).after
        for each in (judge, judged)
    )

    assert model[1] is later
    assert blind is not None
    assert seeing is not None
    assert blind.value < 0.1
    assert seeing.value > 0.8

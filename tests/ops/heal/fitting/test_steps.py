"""The loss of a step is that of its terms; which samples a process learns from."""

from collections.abc import Sequence

import torch
from torch import nn

from modswap.ops.heal.fitting.steps import StepLoss, Term, looks_at_all, owned, sliced, whole


def test_single_process_learns_from_all_samples() -> None:
    chosen = [4, 2, 7]
    assert whole(chosen) == sliced(chosen) == owned([7, 4, 2])(chosen) == chosen


def test_loss_is_the_mean_of_its_terms() -> None:
    model = nn.Linear(1, 1, bias=False)
    seen = []

    def terms(chosen: Sequence[int], scales: dict[str, float]) -> list[Term]:
        seen.append((chosen, scales))
        return [Term(model.weight.sum() * 2, 5), Term(model.weight.sum() * 4, 1)]

    loss = StepLoss(model, terms, whole, [0, 1]).backward([1, 0], {"a": 1.0})

    torch.testing.assert_close(loss, model.weight.detach().sum() * 3)
    torch.testing.assert_close(model.weight.grad, torch.full((1, 1), 3.0))
    assert seen == [([1, 0], {"a": 1.0})]


def test_modules_that_see_the_whole_batch_are_known() -> None:
    assert looks_at_all([nn.Sequential(nn.BatchNorm2d(2))])
    assert looks_at_all([nn.Dropout(0.5)])
    assert not looks_at_all([nn.Dropout(0.0), nn.Linear(2, 2), nn.LayerNorm(2)])

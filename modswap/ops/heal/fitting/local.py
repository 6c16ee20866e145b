"""The fit of one new module at its site: it learns to give what the old module gave."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.errors import ShapeError
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import Fitted
from modswap.live_values import live_tensors, map_tensors, named_tensors
from modswap.ops.apply import Placement, temporarily
from modswap.ops.heal.fitting.loop import FitTask, Judge, train
from modswap.ops.heal.fitting.pace import Order, Pace, Watch, mixed
from modswap.ops.heal.fitting.steps import Scales, Share, Term, looks_at_all, owned, whole
from modswap.ops.heal.fitting.stored import Calls, Pairs, Room, stored
from modswap.ops.heal.measures.error import ChannelSpread, variances
from modswap.ops.run.devices import device_of

SCALE_BATCHES = 4  # whose targets give the variance that the loss is over


@dataclass(frozen=True, slots=True)
class LocalFit:
    """A new module and its data.

    Args:
        path: Dotted name of its site.
        module: The module that runs at the site.
        learned: The new module in it, or itself, whose parameters learn.
        pairs: Gives for the samples of some numbers every call of the site, in their order: its
            arguments in the healed model, and the output of the old module. It runs without
            gradients.
        indices: Numbers of the samples to learn from.
        judge: Returns the agreement of the whole model with the original on other samples; see
            `judged_with_old` for a model with further modules that have learned nothing.
        channel_axis: Axis of the target whose means do not count as variance.
    """

    path: str
    module: nn.Module
    learned: nn.Module
    pairs: Pairs
    indices: Sequence[int]
    judge: Judge | None = None
    channel_axis: int = 1


def fit_local(
    fit: LocalFit, pace: Pace, watch: Watch | None = None, room: Room | None = None
) -> Fitted:
    """Fit a new module to its targets; it holds the best state afterwards.

    The loss is the squared error over the variance of the targets. `Fitted.targets` says whether
    inputs and targets were computed in step, kept in memory or in a temporary file.

    Raises:
        ShapeError: If the new module's output has another shape than the old one's.
    """
    watch, room = watch or Watch(), room or Room()
    parameters = list(fit.learned.parameters())
    share = whole if looks_at_all([fit.learned]) else owned(fit.indices)
    room = room if pace.steps * pace.batch > len(fit.indices) else Room()  # each is seen once
    with stored(fit.pairs, share(fit.indices), pace, room) as kept:
        task = FitTask(
            stage="fit",
            site=fit.path,
            model=fit.module,
            learning=(fit.learned,),
            groups=((parameters, 1.0),),
            held=named_tensors(fit.learned),
            indices=fit.indices,
            scales=partial(_scales, fit, kept.pairs, pace, share),
            terms=partial(_terms, fit, kept.pairs, pace.cosine),
            judge=fit.judge,
            share=share,
        )
        return replace(train(task, pace, watch), targets=kept.description)


def judged_with_old(model: nn.Module, later: Sequence[Placement], judge: Judge) -> Judge:
    """Return a judge of a model in which the modules that learn later are the old ones.

    Behind a module of random weights no agreement says whether an earlier one has learned.

    Args:
        model: The model that `judge` judges.
        later: The old modules, with their paths in the model.
        judge: Returns the agreement of the model with the original.
    """

    def judged() -> Agreement:
        with temporarily(model, later):
            return judge()

    return judged


def _scales(fit: LocalFit, pairs: Pairs, pace: Pace, share: Share) -> Scales:
    """Return the variance of the targets of the first steps."""
    order, spread = Order(fit.indices, pace), ChannelSpread()
    for step in range(SCALE_BATCHES):
        own = share(order.chosen(step))
        for _, _, target in _given(fit, pairs, own) if own else ():
            spread.add(_tensor(target, fit.path), fit.channel_axis)
    return variances({"variance": spread})


def _terms(
    fit: LocalFit, pairs: Pairs, cosine: float, indices: Sequence[int], scales: Scales
) -> list[Term]:
    calls = _given(fit, pairs, indices)
    device, terms = device_of(fit.module), list[Term]()
    for args, kwargs, target in calls:
        with mixed(device):
            output = fit.module(*args, **kwargs)
        given, wanted = _tensor(output, fit.path).float(), _tensor(target, fit.path).float()
        if given.shape != wanted.shape:
            what = f"output was {tuple(wanted.shape)}, is now {tuple(given.shape)}"
            raise ShapeError(what, fit.path)
        loss = F.mse_loss(given, wanted) / scales["variance"]
        if cosine:
            alike = F.cosine_similarity(given, wanted, dim=fit.channel_axis).mean()
            loss = loss + cosine * (1 - alike)
        terms.append(Term(loss, given.numel()))
    return terms


def _given(fit: LocalFit, pairs: Pairs, indices: Sequence[int]) -> Calls:
    """Return the calls for samples on the device of the module."""
    device = device_of(fit.module)
    with torch.no_grad():
        calls: Calls = map_tensors(lambda tensor: tensor.to(device), list(pairs(indices)))
    return calls


def _tensor(value: Any, path: str) -> torch.Tensor:
    found = next((each for each in live_tensors(value) if each.is_floating_point()), None)
    if found is None:
        raise ShapeError("it gives no floating tensor to learn from", path)
    return found

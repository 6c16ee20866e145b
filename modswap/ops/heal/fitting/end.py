"""The fit through the whole model: its outputs learn to be the original's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.healed.progress import Fitted
from modswap.live_values import named_tensors
from modswap.ops.heal.fitting.local import SCALE_BATCHES
from modswap.ops.heal.fitting.loop import FitTask, Judge, train
from modswap.ops.heal.fitting.pace import Order, Pace, Watch, mixed
from modswap.ops.heal.fitting.steps import Scales, Share, Term, looks_at_all, sliced, whole
from modswap.ops.heal.measures.error import ChannelSpread, paired, variances
from modswap.ops.heal.measures.outputs import compared
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.samples import Samples
from modswap.ops.run.devices import device_of
from modswap.ops.run.isolation import untouched

OTHERS_SHARE = 0.05  # of the rate, for parameters that no new module has


@dataclass(frozen=True, slots=True)
class EndFit:
    """A swapped model and its data.

    Args:
        original: The model before the swap, on the device of the other.
        model: The swapped one, which shares no tensor with it.
        learned: The new modules, whose parameters learn.
        samples: The inputs.
        indices: Numbers of the samples to learn from.
        judge: Returns the agreement of the model with the original on other samples.
        everything: Whether all other parameters learn too, at a small share of the rate. Norms
            outside the new modules keep their statistics.
    """

    original: nn.Module
    model: nn.Module
    learned: Sequence[nn.Module]
    samples: Samples
    indices: Sequence[int]
    judge: Judge | None = None
    everything: bool = False


def fit_end(fit: EndFit, pace: Pace, watch: Watch | None = None) -> Fitted:
    """Fit new modules through the whole model; it holds the best state afterwards.

    The loss is the squared error over the original's variance, the mean over all floating tensors
    of the outputs; of a detector over those of its raw head.

    Raises:
        ShapeError: If the model has other outputs than the original.
    """
    own = {id(each) for module in fit.learned for each in module.parameters()}
    new = [each for each in fit.model.parameters() if id(each) in own]
    others = [each for each in fit.model.parameters() if id(each) not in own]
    groups = [(new, 1.0), *([(others, OTHERS_SHARE)] if fit.everything else [])]
    changing = {id(each) for parameters, _ in groups for each in parameters}
    changing |= {id(each) for module in fit.learned for each in module.buffers()}
    named = named_tensors(fit.model)
    share = whole if looks_at_all(fit.learned) else sliced
    task = FitTask(
        stage="end",
        site="",
        model=fit.model,
        learning=fit.learned,
        groups=groups,
        held={name: each for name, each in named.items() if id(each) in changing},
        indices=fit.indices,
        scales=partial(_scales, fit, pace, share),
        terms=partial(_terms, fit),
        judge=fit.judge,
        share=share,
    )
    with untouched(fit.original, training=False):
        return train(task, pace, watch or Watch())


def _scales(fit: EndFit, pace: Pace, share: Share) -> Scales:
    """Return the variance of each of the original's outputs over the samples of the first steps."""
    order, spreads = Order(fit.indices, pace), dict[str, ChannelSpread]()
    for step in range(SCALE_BATCHES):
        if not (own := share(order.chosen(step))):
            continue
        batch = fit.samples.batch(own)
        with torch.no_grad():
            found = compared(outputs_of(fit.original, batch), batch)
        for place, tensor in found.items():
            spreads.setdefault(place, ChannelSpread()).add(tensor)
    return variances(spreads)


def _terms(fit: EndFit, indices: Sequence[int], scales: Scales) -> list[Term]:
    batch = fit.samples.batch(indices)
    with torch.no_grad():
        wanted = outputs_of(fit.original, batch)
    with mixed(device_of(fit.model)):
        given = outputs_of(fit.model, batch)
    return [
        Term(F.mse_loss(new.float(), old.float().to(new.device)) / scales[place], new.numel())
        for place, (old, new) in paired(wanted, given, batch).items()
    ]

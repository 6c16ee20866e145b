"""The closed form of a site: the linear map that its new module can hold, then its last layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from modswap.nn.inherit.attention_rows import UnfitFormError
from modswap.nn.inherit.convolution import Convolution, convolution_of, read_convolution
from modswap.nn.inherit.respelling import tensors_of
from modswap.nn.linear_forms import form_of
from modswap.nn.linear_forms.form import LinearForm, solve
from modswap.nn.linear_forms.moments import PLACES, Moments
from modswap.ops.heal import ranks
from modswap.ops.heal.closed.last_layer import LastLayer, last_layer, refit
from modswap.ops.heal.closed.maps import map_of, tensor_of
from modswap.ops.heal.passes import Models, SiteCall
from modswap.ops.heal.sites import HealedSite

_EXACT = 1e-6
_SAMPLES = 128  # whose places are enough for a linear map, if they are many


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """The result of a closed form at a site.

    Args:
        residual: Squared error over the variance that the linear map leaves on the samples it was
            fitted to; None where the module holds none.
        layer: Path of the last layer, refitted; empty where there is none.
        notes: Sentences for the report.
    """

    residual: float | None = None
    layer: str = ""
    notes: tuple[str, ...] = ()


def convolution_at(site: HealedSite) -> Convolution | None:
    """Return the convolution that the old module of a site is; None if it is none."""
    reading = read_convolution(site.old)
    if reading is None or reading.notes:
        return None
    try:
        return convolution_of(site.old, reading, tensors_of(site.old))
    except UnfitFormError:
        return None


def inherit_map(site: HealedSite, damp: float) -> bool:
    """Give a new module the convolution of the old one, where its linear map can be that."""
    form = form_of(site.learned, damp) if site.replaces else None
    convolution = convolution_at(site)
    parts = form.inherited(convolution) if form is not None and convolution is not None else None
    if form is None or convolution is None or parts is None:
        return False
    bias = convolution.bias
    outputs = convolution.weight.shape[0]
    form.put(parts, torch.zeros(outputs).double() if bias is None else bias)
    return True


def fit_closed(
    models: Models, site: HealedSite, chosen: Sequence[int], damp: float, *, inherited: bool
) -> ClosedForm:
    """Give a new module the weights that fit the old one's outputs best, without a gradient.

    With `inherited` the linear map is there already, and the last layer alone is fitted.
    """
    form = form_of(site.learned, damp) if site.replaces else None
    residual, notes = None, []
    if form is not None and not inherited:
        residual = _put_solution(site, form, _moments(models, site, form, chosen))
        notes = [_held(residual)] if residual is not None else []
    first = models.observed(site, chosen[: models.size])
    last = last_layer(site.learned, first[0]) if site.replaces and first else None
    if last is None:
        return ClosedForm(residual, notes=tuple(notes))
    refit(site.learned, last, models.calls(site, _enough_for(last, first[0], chosen)))
    return ClosedForm(residual, last.path, tuple(notes))


def _enough_for(last: LastLayer, call: SiteCall, chosen: Sequence[int]) -> Sequence[int]:
    """Return as many samples as are enough for a layer: more hardly change what is fitted."""
    target = tensor_of(call.target)
    if target is None or not len(target):
        return chosen
    places = max(target.numel() // (last.outputs * len(target)), 1)  # of a sample
    return chosen[: max(_SAMPLES, -(-PLACES * (last.inputs + 1) // places))]


def _held(residual: float) -> str:
    if residual < _EXACT:
        return "its layers can hold the old module's linear map exactly"
    return f"its layers can hold the old module's linear map but for {residual:.2g} of the variance"


def _put_solution(site: HealedSite, form: LinearForm, moments: Moments | None) -> float | None:
    """Give a new module the linear map that fits best; return what it leaves.

    Without moments, where the targets are no maps, the module stays.
    """
    if moments is None:
        return None
    residual = None
    if ranks.first():
        solution = solve(form, moments.fitting(biased=form.biased))
        form.put(solution.parts, solution.bias)
        residual = solution.residual
    ranks.same(tensors_of(site.learned).values())
    return ranks.from_first(residual)


class _Maps(NamedTuple):
    """The input of a form in a call, and the target, as maps."""

    given: torch.Tensor
    wanted: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Return the samples, and the places of the targets."""
        return len(self.given), len(self.wanted) * self.wanted.shape[2:].numel()


def _maps(site: HealedSite, form: LinearForm, call: SiteCall) -> _Maps | None:
    given, target = inner_input(site, call), tensor_of(call.target)
    if given is None or target is None:
        return None
    layout = getattr(site.inner, "layout", None) or "NCHW"
    maps = map_of(given, layout, (given.shape[1], 1)).float()  # tokens: a map of one column
    height, width = maps.shape[2:]
    size = (-(-height // form.stride[0]), -(-width // form.stride[1]))
    return _Maps(maps, map_of(target, site.layout or layout, size).float())


def _moments(
    models: Models, site: HealedSite, form: LinearForm, chosen: Sequence[int]
) -> Moments | None:
    """Return the moments of as many calls as are enough; None if the targets are no maps."""
    moments, enough = None, _Enough(form.taps)
    for some in ranks.rounds(models.parts(chosen)):
        calls = models.observed(site, some) if some is not None else []
        maps = [_maps(site, form, call) for call in calls]
        sizes = ranks.gathered([one and (*one.size, one.given.shape[1]) for one in maps])
        if any(one is None for ranked in sizes for one in ranked):
            return None
        taken = [[enough.takes(*one) for one in ranked if one is not None] for ranked in sizes]
        own = [one for one, take in zip(maps, taken[ranks.rank()], strict=True) if one and take]
        moments = _added(moments, own, form)
        if enough:
            break
    return _joined(moments, form)


def _added(moments: Moments | None, maps: Sequence[_Maps], form: LinearForm) -> Moments | None:
    for given, wanted in maps:
        moments = moments or Moments(given.shape[1], wanted.shape[1], form.taps, form.centre)
        moments.add(given, wanted, form.seen)
    return moments


class _Enough:
    """Take calls until they are enough for a linear map."""

    def __init__(self, taps: int) -> None:
        self.taps = taps
        self.samples = self.places = self.width = 0

    def takes(self, samples: int, places: int, channels: int) -> bool:
        """Return whether a further call is taken."""
        if self:
            return False
        self.samples, self.places = self.samples + samples, self.places + places
        self.width = self.width or (channels + 1) * self.taps
        return True

    def __bool__(self) -> bool:
        return self.samples >= _SAMPLES and self.places >= PLACES * self.width


def _joined(moments: Moments | None, form: LinearForm) -> Moments | None:
    """Return the sums of all processes."""
    own = [moments.gram, moments.cross, moments.sums, moments.squares] if moments else [None] * 4
    gram, cross, sums, squares = ranks.summed(own)
    (count,) = ranks.totals([moments.count if moments else 0])
    if gram is None or cross is None or sums is None or squares is None:
        return None
    channels = len(gram) // form.taps - 1
    moments = moments or Moments(channels, len(sums), form.taps, form.centre)
    moments.gram, moments.cross, moments.sums, moments.squares = gram, cross, sums, squares
    moments.count = int(count)
    return moments


def inner_input(site: HealedSite, call: SiteCall) -> torch.Tensor | None:
    """Return what the module inside the adapter is given in a call."""
    if site.inner is site.learned:
        return tensor_of((*call.args, *call.kwargs.values()))
    found: list[torch.Tensor] = []

    def note(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        found.append(args[0])
        raise _GivenError

    handle = site.inner.register_forward_pre_hook(note)
    try:
        site.learned(*call.args, **call.kwargs)
    except _GivenError:
        pass
    finally:
        handle.remove()
    return found[0] if found else None


class _GivenError(Exception):
    """The end of a call that has shown what the inner module is given."""

"""The closed form of a site: the linear map that its new module can hold, then its last layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from modswap.nn.adapters import SiteAdapter
from modswap.nn.inherit.attention_rows import UnfitFormError
from modswap.nn.inherit.convolution import Convolution, convolution_of, read_convolution
from modswap.nn.inherit.respelling import tensors_of
from modswap.nn.linear_forms import form_of
from modswap.nn.linear_forms.form import LinearForm, Solution, solve
from modswap.nn.linear_forms.moments import Moments
from modswap.ops.heal.closed.last_layer import last_layer, refit
from modswap.ops.heal.closed.maps import map_of, tensor_of
from modswap.ops.heal.passes import Models, SiteCall
from modswap.ops.heal.sites import HealedSite

_EXACT = 1e-6
_SAMPLES = 256  # whose places are enough for a linear map, if they are many


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
    form, convolution = form_of(site.inner, damp), convolution_at(site)
    parts = form.inherited(convolution) if form is not None and convolution is not None else None
    if form is None or convolution is None or parts is None or not _plain(site):
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
    form = form_of(site.inner, damp) if _plain(site) else None
    residual, notes = None, []
    if form is not None and not inherited:
        solution = _solved(models, site, form, chosen)
        if solution is not None:
            form.put(solution.parts, solution.bias)
            residual = solution.residual
            notes = [_held(residual)]
    first = models.observed(site, chosen[: models.size])
    last = last_layer(site.learned, first[0]) if site.replaces and first else None
    if last is None:
        return ClosedForm(residual, notes=tuple(notes))
    refit(site.learned, last, models.calls(site, chosen))
    return ClosedForm(residual, last.path, tuple(notes))


def _held(residual: float) -> str:
    if residual < _EXACT:
        return "its layers can hold the old module's linear map exactly"
    return f"its layers can hold the old module's linear map but for {residual:.2g} of the variance"


def _plain(site: HealedSite) -> bool:
    """Return whether the output of the new module is that of its site, but for the axes."""
    adapter = site.learned
    if not site.replaces:
        return False
    if not isinstance(adapter, SiteAdapter):
        return True
    return adapter.project is None and adapter.stride == (1, 1)


def _solved(
    models: Models, site: HealedSite, form: LinearForm, chosen: Sequence[int]
) -> Solution | None:
    """Return the linear map that fits best; None if the targets are no maps."""
    moments = None
    seen = 0
    for call in models.calls(site, chosen):
        if moments is not None and seen >= _SAMPLES and moments.plenty:
            break
        given, target = inner_input(site, call), tensor_of(call.target)
        if given is None or target is None:
            return None
        layout = getattr(site.inner, "layout", None) or "NCHW"
        maps = map_of(given, layout, (given.shape[1], 1)).float()  # tokens: a map of one column
        height, width = maps.shape[2:]
        size = (-(-height // form.stride), -(-width // form.stride))
        wanted = map_of(target, site.layout or layout, size).float()
        if moments is None:
            moments = Moments(maps.shape[1], wanted.shape[1], form.taps, form.centre)
        moments.add(maps, wanted, form.seen)
        seen += len(maps)
    return solve(form, moments.fitting(biased=form.biased)) if moments is not None else None


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

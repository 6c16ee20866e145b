"""The linear map of a module inside an adapter that pools or projects what the module gives."""

from typing import cast

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.adapters import SiteAdapter
from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms.form import LinearForm, Parts
from modswap.nn.linear_forms.moments import Fitting
from modswap.nn.linear_forms.projected import Projected


class Adapted:
    """The map P · pool · Wo · R of a module that ends in a projection, with its adapter behind it.

    Pooling is linear, so that what the module sees is pooled in place of what it gives; and Wo and
    the adapter's projection P are one matrix, which becomes P, while Wo only takes back the
    lengths that `put` of the module's own form gives to the other parts.
    """

    biased = True
    present = True

    def __init__(self, adapter: SiteAdapter, form: LinearForm) -> None:
        self.adapter, self.form = adapter, form
        (high, wide), pooled = form.stride, adapter.stride
        self.stride = (high * pooled[0], wide * pooled[1])
        self.taps, self.centre, self.searched = form.taps, form.centre, form.searched
        self.iterations, self.damp = form.iterations, form.damp

    def seen(self, maps: torch.Tensor) -> torch.Tensor:
        """Return what the module's own form sees, pooled as the adapter pools."""
        seen = self.form.seen(maps)
        if self.adapter.stride == (1, 1):
            return seen
        whole = seen.unflatten(2, tuple(maps.shape[2:]))
        return F.avg_pool2d(whole, self.adapter.stride, ceil_mode=True).flatten(2)

    def begin(self, fitting: Fitting) -> list[torch.Tensor]:
        """Return the parts to start from."""
        return self.form.begin(fitting)

    def kernel(self, parts: Parts) -> torch.Tensor:
        """Return the map (D, O) to the outputs of the adapter."""
        return self.form.kernel(parts)

    def settled(self, parts: Parts, fitting: Fitting) -> list[torch.Tensor]:
        """Return all parts, the last of them (O, C)."""
        return self.form.settled(parts, fitting)

    def loss(self, parts: Parts, fitting: Fitting) -> torch.Tensor:
        """Return the error over the variance."""
        return self.form.loss(parts, fitting)

    def inherited(self, convolution: Convolution) -> list[torch.Tensor] | None:
        """Return None: an adapter's projection is not the old module's."""
        del convolution
        return None

    @torch.no_grad()
    def put(self, parts: Parts, bias: torch.Tensor) -> None:
        """Write the parts: the last into the adapter's projection, where it has one."""
        project = self.adapter.project
        if project is None:
            self.form.put(parts, bias)
            return
        last = parts[-1]
        eye = torch.eye(last.shape[1], dtype=last.dtype, device=last.device)
        self.form.put([*parts[:-1], eye], eye.new_zeros(len(eye)))
        project.weight.copy_(last.view_as(project.weight))
        cast("torch.Tensor", project.bias).copy_(bias)

    def mechanism(self) -> list[torch.Tensor]:
        """Return the tensors that make the map vanish where they are zero."""
        return self.form.mechanism()


def adapted(adapter: SiteAdapter, form: LinearForm) -> LinearForm | None:
    """Return the form of a module with the adapter around it; None where the two are no one map."""
    if adapter.project is None and adapter.stride == (1, 1):
        return form
    if adapter.layout is None or not isinstance(form, Projected):
        return None
    if adapter.wants == "NLC" and adapter.stride != (1, 1):
        return None  # the form sees a row of tokens, the adapter pools a map
    return Adapted(adapter, form)

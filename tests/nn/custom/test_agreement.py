"""A class that runs in several layouts is decided by its results, or by the rule."""

from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.core.seen.site import Layout, Site
from modswap.nn.custom import agreement
from modswap.nn.custom.agreement import same_results
from modswap.nn.custom.fit import fit_custom
from tests.nn.sites import call, number, site, tensor


class Attends(nn.Module):
    """Attention along the axis before the last, which begins at zero: (…, L, dim) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * ((x @ x.mT).softmax(-1) @ x)


class Alone(nn.Module):
    """Each token by itself: (…, dim) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out


class Shares(nn.Module):
    """Shares along the second axis of a tensor of any layout."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(1)


class Sums(nn.Module):
    """Sums along the first axis after the batch, of values that it mixes in the last."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x).cumsum(1)
        return out


class Gates(nn.Module):
    """A gate by the mean of all tokens: (N, …, dim) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.mix(x.flatten(1, -2).mean(1)).sigmoid()
        out: torch.Tensor = x * mean.reshape(len(x), *[1] * (x.ndim - 2), -1)
        return out


MAP, LAST, TOKENS = tensor(2, 8, 6, 10), tensor(2, 6, 10, 8), tensor(2, 16, 8)
PLACES: dict[Layout, Site] = {
    "NCHW": site(MAP), "NHWC": site(LAST, layout="NHWC"), "NLC": site(TOKENS, layout="NLC"),
}  # fmt: skip


def fit(place: Site, cls: type[nn.Module], wants: Layout | None = None) -> Any:
    return fit_custom(place, cls, f"net:{cls.__name__}", {}, adapt=False, wants=wants)


@pytest.mark.parametrize(
    ("cls", "layout", "ways"),
    [
        (Attends, "NCHW", r"\(2, 6, 10, 8\) as NHWC and \(2, 60, 8\) as NLC"),
        (Attends, "NHWC", r"\(2, 6, 10, 8\) as NHWC and \(2, 60, 8\) as NLC"),
        (Sums, "NCHW", r"\(2, 6, 10, 8\) as NHWC and \(2, 60, 8\) as NLC"),
        (Shares, "NCHW", r"\(2, 8, 6, 10\) as NCHW and \(2, 6, 10, 8\) as NHWC and \(2, 60, 8\)"),
        (Shares, "NHWC", r"\(2, 6, 10, 8\) as NHWC and \(2, 8, 6, 10\) as NCHW and \(2, 60, 8\)"),
    ],
)
def test_layouts_with_other_results_are_refused_and_shown(
    cls: type[nn.Module], layout: Layout, ways: str
) -> None:
    with pytest.raises(ShapeError, match=f"net:{cls.__name__} runs on {ways}.*with other") as error:
        fit(PLACES[layout], cls)

    assert "`wants: NHWC` or " in error.value.fix
    assert error.value.settings == ()
    assert fit(PLACES[layout], cls, "NLC").wants == "NLC"


@pytest.mark.parametrize(
    ("cls", "layout", "wants"),
    [
        (Alone, "NCHW", "NHWC"),
        (Alone, "NHWC", "NHWC"),
        (Alone, "NLC", "NLC"),
        (Gates, "NCHW", "NHWC"),
        (nn.GELU, "NCHW", "NCHW"),
        (nn.Identity, "NHWC", "NHWC"),
    ],
)
def test_layouts_with_the_same_results_need_no_rule(
    cls: type[nn.Module], layout: Layout, wants: Layout
) -> None:
    found = fit(PLACES[layout], cls)

    assert found.wants == wants
    assert "results" not in found.choices[-1].reason


@pytest.mark.parametrize("cls", [Attends, Shares])
def test_class_that_takes_tokens_as_the_old_module_did_gets_tokens(cls: type[nn.Module]) -> None:
    found = fit(PLACES["NLC"], cls)

    assert found.wants == "NLC"
    assert "as the old module did; it also runs as " in found.choices[-1].reason
    assert found.choices[-1].reason.endswith(", with other results")


class Closed(nn.Identity):
    """A module that cannot be copied."""

    def __deepcopy__(self, memo: object) -> "Closed":
        raise TypeError("not this one")


class Picky(nn.Module):
    """A module that takes a single size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(60, 8) if x.ndim == 3 else x + torch.zeros(6, 10, 8)


class Shorter(nn.Module):
    """A module whose output has another shape in the second call than in the first."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Shorter.calls += 1
        return x[: Shorter.calls % 2 + 1]


@pytest.mark.parametrize(
    ("module", "same"),
    [(nn.Identity(), True), (Closed(), False), (Shorter(), False), (nn.Softmax(1), True)],
)
def test_results_are_compared(module: nn.Module, same: bool) -> None:
    assert same_results(PLACES["NCHW"], module, [nn.Sequential, nn.Sequential]) is same


def test_module_of_a_single_size_is_compared_at_that(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit(PLACES["NHWC"], Picky).wants == "NHWC"

    monkeypatch.setattr(agreement, "MAX_ELEMENTS", 100)
    assert not same_results(PLACES["NHWC"], Picky(), [nn.Sequential, nn.Sequential])
    monkeypatch.setattr(agreement, "MAX_WEIGHTS", 1)
    assert not same_results(PLACES["NHWC"], nn.Linear(8, 8), [nn.Sequential, nn.Sequential])


def test_inputs_beside_the_map_are_made_as_well() -> None:
    place = site(call(TOKENS, number(4), number(4), ids=tensor(2, 3, dtype="int64")), layout="NLC")

    class Takes(nn.Module):
        def forward(
            self, x: torch.Tensor, high: int, wide: int, *, ids: torch.Tensor
        ) -> torch.Tensor:
            return x * (high + wide) + ids.sum()

    assert same_results(place, Takes(), [Kept, Kept])


class Kept(nn.Module):
    """A module in another, that passes everything on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

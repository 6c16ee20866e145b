"""New modules that raise on real values, or whose outputs are not finite."""

import pytest
import torch
from torch import nn

from tests.ops.examine.swapped_blocks import DIM, Causal, NotFinite, Wrap, examine, here, recipe


class RaisesOnValues(nn.Module):
    """Reads beyond the end, which raises on real values alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., torch.arange(x.shape[-1]) + 1] * self.weight


def test_module_that_raises_on_real_values_alone_is_found_once() -> None:
    found = examine(Wrap(Causal()), recipe(here(RaisesOnValues)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("finite", "block")
    assert "on real values it raises, as the original does not: IndexError" in fault.what


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (NotFinite, "the output is not finite"),
    ],
)
def test_fault_of_a_module_alone_is_found(new: type[nn.Module], what: str) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)), "finite")

    (fault,) = [one for one in found if one.path and one.status == "failed"]
    assert what in fault.what


class Unscaled(nn.Module):
    """Attention whose logits are scaled after their product: (N, L, E) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        logits = q @ k.transpose(1, 2) * DIM**-0.5
        out: torch.Tensor = logits.softmax(-1).to(v.dtype) @ v
        return out


class Exponent(nn.Module):
    """A softmax without its largest exponent taken off, which overflows in float32 too."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.proj(x).exp()
        return y / y.sum(-1, keepdim=True)


class Scaled(Unscaled):
    """Scales queries first, and computes its logits in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        with torch.autocast("cpu", enabled=False):
            logits = (q.float() * DIM**-0.5) @ k.float().transpose(1, 2)
        out: torch.Tensor = logits.softmax(-1).to(v.dtype) @ v
        return out


class Normed(nn.Module):
    """A site behind a normalisation with a weight: (N, L, E) -> (N, L, E)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        nn.init.constant_(self.norm.weight, weight)
        self.block = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(self.norm(x))
        return out


@pytest.mark.parametrize("unreal", [False, True], ids=["replace", "check"])
@pytest.mark.parametrize(
    ("new", "weight", "status", "what"),
    [
        (Unscaled, 1.0, "passed", ""),
        (Unscaled, 2000.0, "failed", "not finite under autocast to float16 for inputs as large"),
        (Exponent, 1.0, "passed", ""),
        (Scaled, 2000.0, "passed", ""),
    ],
)
def test_overflow_at_the_magnitudes_of_the_model_is_found(
    new: type[nn.Module], weight: float, status: str, what: str, unreal: bool
) -> None:
    (site,) = [
        one
        for one in examine(Normed(weight), recipe(here(new)), "finite", unreal=unreal)
        if one.path
    ]

    assert (site.status, what in site.what) == (status, True), site
    assert site.data == {} or round(site.data["magnitude"], -2) == weight


def test_overflow_in_float32_is_found_where_no_weights_are_read() -> None:
    (site, _) = examine(Normed(2000.0), recipe(here(Exponent)), "finite")

    assert site.status == "failed"
    assert "not finite for inputs as large as the site's in the model, 2e+03 on" in site.what


def test_precisions_of_the_recipe_decide_whether_float16_is_tried() -> None:
    wanted = recipe(here(Unscaled))
    verify = wanted.verify.model_copy(update={"precisions": ("float32", "bfloat16")})

    found = examine(Normed(2000.0), wanted.model_copy(update={"verify": verify}), "finite")

    assert {one.status for one in found} == {"passed"}


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 0.0])
def test_a_magnitude_that_is_no_number_counts_as_none(weight: float) -> None:
    found = examine(Normed(weight), recipe(here(Unscaled)), "finite")

    assert next(one for one in found if one.path).status == "passed"

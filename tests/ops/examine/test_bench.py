"""Examinations that run the whole model, and how the bench runs all.

Covers: matrix, reached.
"""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import Recipe, Verify
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.verdict import Verdict
from modswap.core.errors import RecipeError
from modswap.core.finding import Finding
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.examine.bench import Bench, _findings, examined
from modswap.ops.examine.table import EXAMINATIONS, Examination
from modswap.ops.swap import prepare, verified
from tests.models import EvenBatch, GatedNet, OneBatch

__all__ = ["EvenBatch", "OneBatch"]


class Doubling(nn.MultiheadAttention):
    """An attention whose weights torch's fast path would read, without a call of its forward."""

    def __init__(self, embed_dim: int = 16, num_heads: int = 4) -> None:
        super().__init__(embed_dim, num_heads, batch_first=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output, weights = super().forward(*args, **kwargs)
        return output * 2, weights


class Encoder(nn.Module):
    """A stem and torch's own encoder layer: (N, L, 16) -> (N, L, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(self.stem(x))
        return out


class Halved(nn.Module):
    """Calls its gate twice, or once if the gate has `once`: (N, 8, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once: bool = getattr(self.gate, "once", False) and not self.gate._forward_hooks
        y: torch.Tensor = self.gate(x)
        return y if once else self.gate(y)


class Once(nn.Module):
    """A gate with the attribute `once`: (N, 8, H, W) -> the same."""

    once = True

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x)
        return out


class Watched(nn.Module):
    """Raises where a gate of some classes has no hook: (N, 8, H, W) -> the same."""

    trusted: tuple[type[nn.Module], ...] = (nn.Conv2d,)

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.gate, self.trusted) and not self.gate._forward_hooks:
            raise RuntimeError("nobody watches")
        y: torch.Tensor = self.gate(x)
        return y


class WatchedAlways(Watched):
    """Raises where its gate has no hook."""

    trusted = ()


class FullPrecision(nn.Module):
    """Mixes dtypes as soon as its input is not float32: (N, C, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.grid = torch.eye(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,cd->ndhw", x, self.grid.to(x.device)) * self.weight


def examine(
    model: nn.Module, rule: str, shape: str, *, unreal: bool = True, more: str = ""
) -> Verdict:
    """Return the verdict on a rule; the model is restored."""
    text = f"version: 1\ninputs: [{{shape: {shape}}}]\nreplace: [{rule}]\n{more}"
    recipe = parse_recipe(text, "swap.yaml", ".")
    prepared = prepare(model, recipe, unreal=unreal)
    with verified(model, prepared, lambda _: None) as standing:
        thorough = recipe.verify.thorough
        bench = Bench(model, prepared, standing.after, standing.old, recipe, thorough=thorough)
        modules = dict(model.named_modules())
        rows = [row for row in EXAMINATIONS if row.name in {"matrix", "reached"}]
        verdict = examined(standing.verdict, bench, rows)
        assert dict(model.named_modules()) == modules
    return verdict


def failed(verdict: Verdict, check: str) -> list[Finding]:
    return [f for f in verdict.findings if f.check == check and f.status == "failed"]


def rule(match: str, name: str) -> str:
    return f"{{match: {match}, with: '{__name__}:{name}', layout: NCHW, wants: NCHW}}"


def test_fast_path_around_a_swapped_attention_is_found_and_hooks_do_not_hide_it() -> None:
    encoder = f"{{match: layer.self_attn, with: '{__name__}:Doubling', layout: NLC, wants: NLC}}"
    for unreal in (True, False):
        verdict = examine(Encoder().eval(), encoder, "[2, 5, 16]", unreal=unreal)

        found = failed(verdict, "reached")
        assert [one.path for one in found] == ["layer.self_attn"]
        assert "only while hooks watch it" in found[0].what
        assert "set_fastpath_enabled" in found[0].fix
        assert not verdict.ok


def test_fast_path_around_another_layer_of_the_same_class_is_no_alarm() -> None:
    layer = (
        "{match: layer.linear1, with: 'torch.nn:Linear', args: {in_features: 16, out_features: 32}}"
    )

    verdict = examine(Encoder().eval(), layer, "[2, 5, 16]")

    assert verdict.ok
    (found,) = [one for one in verdict.findings if one.check == "reached"]
    assert found.what == "as before, the model bypasses its forward in evaluation"


def test_sound_swap_is_reached() -> None:
    verdict = examine(GatedNet().eval(), "{match: '*_attention', with: SEBlock}", "[2, 3, 28, 28]")

    assert verdict.ok
    reached = [found for found in verdict.findings if found.check == "reached"]
    assert {found.path for found in reached} == {"space_attention", "channel_attention"}
    assert all(found.data["before"] == found.data["after"] == 1 for found in reached)


def test_shared_instance_counts_the_calls_of_all_its_sites() -> None:
    one = "{match: '*_attention', with: SEBlock, share: true}"

    assert examine(GatedNet().eval(), one, "[2, 3, 28, 28]").ok


def test_module_that_is_called_less_often_without_hooks_is_found() -> None:
    found = failed(examine(Halved().eval(), rule("gate", "Once"), "[2, 8, 6, 6]"), "reached")

    assert "called 2 times, is now 1 times" in found[0].what


def test_module_that_needs_hooks_is_found() -> None:
    found = failed(examine(Watched().eval(), rule("gate", "Once"), "[2, 8, 6, 6]"), "reached")

    assert "without hooks the forward pass raised RuntimeError: nobody watches" in found[0].what


def test_original_that_needs_hooks_is_reported() -> None:
    verdict = examine(WatchedAlways().eval(), "{match: gate, with: SEBlock}", "[2, 8, 6, 6]")

    assert verdict.ok
    skipped = [one for one in verdict.findings if one.check == "reached"]
    assert [one.status for one in skipped] == ["skipped"]


class Constant(nn.Module):
    """Reads a number from a tensor that is no buffer: (N, 8, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = torch.tensor([2.0, 3.0])
        self.gate = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.gate(x)
        return y * float(self.scales[1])


def test_model_that_needs_values_is_run_on_its_own_to_see_what_is_reached() -> None:
    verdict = examine(Constant().eval(), "{match: gate, with: SEBlock}", "[2, 8, 6, 6]")

    (found,) = [one for one in verdict.findings if one.check == "reached"]
    assert (found.status, found.data["before"], found.data["after"]) == ("passed", 1, 1)


def test_cases_that_fail_alike_are_reported_once() -> None:
    turned = f"{{match: gate, with: '{__name__}:Turned', layout: NCHW, wants: NCHW}}"

    found = failed(examine(Deaf().eval(), turned, "[8, 8, 6, 6]"), "matrix")

    (told,) = [one.what for one in found if one.path == "gate"]
    assert told.startswith("output was (1, 8, 6, 6), is now (8, 1, 6, 6) (with (1, 8, 6, 6) eval")
    assert told.endswith("), and in the same way in 3 further cases")


class Turned(nn.Module):
    """Returns channels first and samples second: (N, C, H, W) -> (C, N, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1) * 2


def test_batch_that_only_one_number_fits_is_found_by_the_matrix() -> None:
    model = GatedNet().eval()
    swap = "{match: space_attention, with: 'tests.models:OneBatch', layout: NCHW, wants: NCHW}"

    found = failed(examine(model, swap, "[2, 3, 28, 28]"), "matrix")

    assert any("(3, 3, 28, 28)" in one.what for one in found)


def test_even_batches_alone_are_found() -> None:
    swap = "{match: space_attention, with: 'tests.models:EvenBatch', layout: NCHW, wants: NCHW}"

    found = failed(examine(GatedNet().eval(), swap, "[2, 3, 28, 28]"), "matrix")

    assert {one.path for one in found} == {"space_attention"}
    assert any("(1, 3, 28, 28)" in one.what for one in found)


class PooledNorm(nn.Module):
    """A channel gate with a batch norm behind global pooling."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate: torch.Tensor = self.norm(x.mean((2, 3), keepdim=True))
        return x * gate.sigmoid()


def test_single_sample_that_fails_in_training_is_found() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)).eval()

    found = failed(examine(model, rule("'1'", "PooledNorm"), "[2, 8, 6, 6]"), "matrix")

    assert [one.path for one in found] == ["1.norm"]
    assert "(1, 8, 6, 6)" in found[0].what
    assert "train" in found[0].what


def test_lost_precision_is_found_and_one_that_the_original_lacks_is_not() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)).eval()
    found = failed(examine(model, rule("'1'", "FullPrecision"), "[2, 8, 6, 6]"), "matrix")
    assert any("bfloat16" in one.what for one in found)

    without = nn.Sequential(FullPrecision(), nn.Conv2d(8, 8, 1)).eval()
    verdict = examine(without, "{match: '1', with: SEBlock}", "[2, 8, 6, 6]")
    assert verdict.ok
    skipped = [one for one in verdict.findings if one.status == "skipped"]
    assert "the original itself does not run in" in skipped[0].what
    assert "bfloat16" in skipped[0].what


def test_module_that_needs_values_is_not_blamed_for_having_none() -> None:
    swap = "{match: space_attention, with: 'tests.models:ByValue', layout: NCHW, wants: NCHW}"

    verdict = examine(GatedNet().eval(), swap, "[2, 3, 28, 28]", unreal=False)

    assert verdict.ok
    told = [one for one in verdict.findings if one.check == "matrix"]
    assert [(one.path, one.status) for one in told] == [("space_attention", "skipped")]
    assert "needs values" in told[0].what


def test_thorough_matrix_is_the_product() -> None:
    swap = "{match: space_attention, with: SEBlock}"
    more = "verify: {thorough: true, batches: [1, 4], precisions: [float32, bfloat16]}\n"

    verdict = examine(GatedNet().eval(), swap, "[2, 3, 28, 28]", more=more)

    cases = verdict.findings[0].data["cases"]
    assert "(4, 3, 28, 28), channels_last train bfloat16" in cases
    assert len(cases) == len(set(cases)) == 3 * 2 * 2 * 2 - 1


def without_sites(bench: Bench) -> list[Finding]:
    raise ZeroDivisionError("no sites")


def breaks_later(bench: Bench) -> Iterator[Finding]:
    yield Finding("sizes", "", "failed", "seen")
    raise RuntimeError("later")


def test_rows_that_a_recipe_skips_are_left_out_and_exceptions_of_others_are_reported() -> None:
    model = GatedNet().eval()
    text = (
        "version: 1\ninputs: [{shape: [2, 3, 28, 28]}]\nverify: {skip: [matrix]}\n"
        "replace: [{match: space_attention, with: SEBlock}]\n"
    )
    recipe = parse_recipe(text, "swap.yaml", ".")
    prepared = prepare(model, recipe, unreal=True)
    rows = [
        Examination(name, "passes", "", f"{__name__}:without_sites")
        for name in ("matrix", "reached")
    ]
    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, recipe)
        verdict = examined(standing.verdict, bench, rows)

    assert [(one.check, one.status) for one in verdict.findings] == [("reached", "skipped")]
    assert "ZeroDivisionError: no sites" in verdict.findings[0].what


@pytest.mark.parametrize("thorough", [False, True])
def test_model_of_very_many_calls_is_not_run_again_and_again_unless_that_is_asked_for(
    thorough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.ops.examine.bench.MAX_CALLS_OF_MODULES", 3)
    model = GatedNet().eval()
    recipe = parse_recipe(
        "version: 1\ninputs: [{shape: [2, 3, 28, 28]}]\n"
        "replace: [{match: space_attention, with: SEBlock}]\n",
        "swap.yaml",
        ".",
    )
    prepared = prepare(model, recipe, unreal=True)
    rows = [
        Examination("reached", "passes", ""),
        Examination("export", "file", "", "modswap.ops.examine.reached:reached"),
        Examination("determinism", "pairs", ""),
    ]
    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, recipe, thorough=thorough)
        verdict = examined(standing.verdict, bench, rows)

    long = [one.check for one in verdict.findings if "calls of modules, over 3" in one.what]
    assert long == ([] if thorough else ["reached", "export"])


class Deaf(nn.Module):
    """Bypasses its gate if that is a convolution without a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: nn.Module = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.gate, nn.Conv2d) and not self.gate._forward_hooks:
            return nn.functional.conv2d(x, self.gate.weight, self.gate.bias)
        y: torch.Tensor = self.gate(x)
        return y


def test_site_that_the_original_bypassed_is_reported() -> None:
    verdict = examine(Deaf().eval(), "{match: gate, with: SEBlock}", "[2, 8, 6, 6]")

    assert verdict.ok
    assert any("the original bypassed it" in found.what for found in verdict.findings)


def test_failures_that_were_found_before_a_row_breaks_count() -> None:
    row = Examination("sizes", "passes", "", f"{__name__}:breaks_later")

    found = list(_findings(row, cast("Bench", None)))

    assert [(one.status, one.what) for one in found] == [
        ("failed", "seen"),
        ("skipped", "it could not be examined: RuntimeError: later"),
    ]


class TrainedBranch(nn.Module):
    """A branch that runs in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.aux = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.stem(x)
        return y + self.aux(y) if self.training else y


def test_branch_that_runs_in_training_alone_raises_no_alarm() -> None:
    args = "{in_channels: 4, out_channels: 4, kernel_size: 1}"
    swap = f"{{match: aux, with: 'torch.nn:Conv2d', args: {args}}}"

    verdict = examine(TrainedBranch(), swap, "[2, 3, 8, 8]", more="verify: {modes: [train]}")

    assert verdict.ok, verdict.problems


def test_name_in_skip_that_is_no_examination_is_refused_in_a_recipe_made_in_python_too() -> None:
    rules = (Rule.model_validate({"match": "a", "with": "ECA"}),)
    verify = Verify(skip=("sizes", "untuched"))
    inside = parse_recipe(
        "version: 1\nverify: {skip: [sizes, untuched]}\nreplace: [{match: a, with: ECA}]\n",
        "net.pt:recipe",
        ".",
    )

    for recipe, where in (
        (Recipe(version=1, replace=rules, verify=verify), "<recipe>"),
        (inside, "net.pt:recipe:2:24"),
    ):
        bench = Bench(nn.Identity(), cast("Any", None), (), {}, recipe)
        with pytest.raises(RecipeError, match="item 2 of 'skip' is 'untuched'") as at:
            examined(Verdict((), None), bench)
        assert (at.value.where, at.value.fix) == (where, "did you mean 'untouched'?")


class Half(nn.Module):
    """Two sites and a tied pair, to be stored in half precision: (N, 3, H, W) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.first = nn.Conv2d(8, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        self.up = nn.Linear(8, 8)
        self.down = nn.Linear(8, 8)
        self.down.weight = self.up.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.second(self.first(self.stem(x)))
        out: torch.Tensor = self.down(self.up(maps.mean((2, 3))))
        return out


class Float32Part(nn.Module):
    """Computes in float32, and does not go back."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(x.float().softmax(1))
        return out + 0 * x


class TiedPart(nn.Module):
    """Its two layers share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv2d(8, 8, 1)
        self.down = nn.Conv2d(8, 8, 1)
        self.down.weight = self.up.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down(self.up(x))
        return out


BOTH = "{{match: '{{first,second}}', with: '{}', layout: NCHW, share: {}}}"


@pytest.mark.each_once
@pytest.mark.parametrize("share", ["false", "true"])
@pytest.mark.parametrize("new", ["SEBlock", f"{__name__}:TiedPart"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("unreal", [False, True])
def test_a_model_stored_in_another_precision_is_examined(
    dtype: torch.dtype, new: str, share: str, unreal: bool
) -> None:
    verdict = examine(Half().to(dtype), BOTH.format(new, share), "[2, 3, 8, 8]", unreal=unreal)

    assert verdict.ok
    assert {(f.check, f.status) for f in verdict.findings} == {
        ("matrix", "passed"),
        ("reached", "passed"),
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_model_runs_in_its_own_precision_even_if_the_recipe_names_another(
    dtype: torch.dtype,
) -> None:
    swap = rule("first", "Float32Part")
    only = "verify: {precisions: [float32]}\n"

    found = failed(
        examine(Half().to(dtype), swap, "[2, 3, 8, 8]", unreal=False, more=only), "matrix"
    )

    assert [f.path for f in found] == ["first.out"]
    assert str(dtype)[6:] in found[0].what


def test_a_half_model_that_the_device_cannot_run_is_run_without_data() -> None:
    class NoKernel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.dtype is torch.float16 and not x.is_meta:
                raise NotImplementedError
            return x

    model = nn.Sequential(Half().half(), NoKernel())

    verdict = examine(model, "{match: 0.first, with: SEBlock}", "[2, 3, 8, 8]", unreal=False)

    (matrix,) = [f for f in verdict.findings if f.check == "matrix"]
    assert (matrix.status, matrix.what) == ("passed", "8 further cases hold")

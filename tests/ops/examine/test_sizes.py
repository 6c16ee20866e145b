"""Size rules of models, found by running them without data.

Covers: sizing.calls, sizing.sweep.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.finding import Finding
from modswap.core.sizes.rule import SizeRule, fit_rule
from modswap.io.recipe.reader import parse_recipe
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.sizes import sizes
from modswap.ops.examine.sizing.calls import varied, without_data
from modswap.ops.examine.sizing.sweep import NoSweepError, sweep
from modswap.ops.run.inputs import DummyCall
from modswap.ops.swap import prepare, verified
from tests.models import GatedNet


@contextmanager
def bench(
    model: nn.Module,
    replace: str,
    *shape: int,
    calls: tuple[DummyCall, ...] = (),
    verify: str = "{}",
) -> Iterator[Bench]:
    """Yield the bench of a model that is swapped by a rule."""
    text = f"version: 1\nreplace:\n  - {replace}\nverify: {verify}\n"
    recipe = parse_recipe(text, "swap.yaml", ".")
    calls = calls or (DummyCall((TensorInput(shape=shape),), {}),)
    prepared = prepare(model.eval(), recipe, calls)
    with verified(model, prepared, print) as standing:
        assert standing.verdict.ok
        yield Bench(model, prepared, standing.after, standing.old, recipe)


def examined(model: nn.Module, replace: str, *shape: int, verify: str = "{}") -> Finding:
    with bench(model, replace, *shape, verify=verify) as made:
        (finding,) = sizes(made)
    return finding


class Keeps(nn.Module):
    """The site of the swap, then a module that limits the sizes."""

    def __init__(self, *rest: nn.Module, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Identity() if stem is None else stem
        self.gate = nn.Conv2d(4, 4, 1)
        self.rest = nn.Sequential(*rest)

    def forward(self, x: torch.Tensor) -> Any:
        return self.rest(self.gate(self.stem(x)))


class UNet(nn.Module):
    """Half and double, with a skip: (N, 4, H, W) with H and W even."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.gate(x)
        out: torch.Tensor = torch.cat([x, self.up(self.down(x))], 1)
        return out


class Positions(nn.Module):
    """Patches with position embeddings of a fixed number: (N, 4, H, W) -> (N, L, E)."""

    def __init__(self, patch: int, number: int, *, whole: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(4, 4, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(1, number, 4))
        self.whole = patch if whole else 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % self.whole or x.shape[3] % self.whole:
            raise ValueError(x.shape)
        out: torch.Tensor = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        return out


class Square(nn.Module):
    """A map that has to be square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x


class Tokens(nn.Module):
    """Tokens in groups: (N, L, E) or (N, L) of indices."""

    def __init__(self, group: int, *, indices: bool = False) -> None:
        super().__init__()
        self.group = group
        self.embed = nn.Embedding(10, 8) if indices else nn.Identity()
        self.gate = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.gate(self.embed(x))
        x = x if mask is None else x * mask[:, 0, :, :1]
        out: torch.Tensor = x.unflatten(1, (self.group, -1)).sum(1)
        return out


def routed(n_win: int) -> nn.Module:
    return BiLevelRoutingAttention(4, num_heads=2, n_win=n_win, topk=1, layout="NCHW")


SAME = '{match: gate, with: "torch.nn:Conv2d", args: {in_channels: 4, out_channels: 4, kernel_size: 1}}'  # noqa: E501 - a rule on one line
MAPS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], str]] = {
    "plain": (lambda: Keeps(nn.Conv2d(4, 2, 3, padding=1)), (32, 32), "any"),
    "valid": (
        lambda: Keeps(nn.Conv2d(4, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)),
        (16, 20),
        "H and W at least 7",
    ),
    "wide": (
        lambda: Keeps(nn.Conv2d(4, 2, (5, 3))),
        (16, 16),
        "H at least 5 and W at least 3",
    ),
    "unet": (UNet, (16, 16), "H and W divisible by 2"),
    "routed": (lambda: Keeps(routed(4)), (16, 16), "H and W divisible by 4"),
    "routed after a stem": (
        lambda: Keeps(routed(7), stem=nn.Conv2d(4, 4, 3, stride=2, padding=1)),
        (28, 28),
        "H and W with a remainder of 0 or 13 by 14",
    ),
    "flattened": (
        lambda: Keeps(nn.Flatten(), nn.Linear(4 * 28 * 28, 2)),
        (28, 28),
        "H x W = 784 alone",
    ),
    "pooled and flattened": (
        lambda: Keeps(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 36, 2)),
        (12, 12),
        "floor(H / 2) x floor(W / 2) = 36 alone",
    ),
    "lenet": (
        lambda: Keeps(
            nn.Conv2d(4, 4, 5), nn.MaxPool2d(2), nn.Conv2d(4, 4, 5), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4 * 25, 2),
        ),
        (32, 32),
        "floor((H - 12) / 4) x floor((W - 12) / 4) = 25 alone",
    ),
    "positions": (
        lambda: Keeps(Positions(8, 16)),
        (32, 32),
        "floor(H / 8) x floor(W / 8) = 16 or 1 alone",
    ),
    "positions of whole patches": (
        lambda: Keeps(Positions(8, 16, whole=True)),
        (32, 32),
        "H and W divisible by 8, with floor(H / 8) x floor(W / 8) = 16 or 1",
    ),
    "square": (lambda: Keeps(Square()), (16, 16), "H = W"),
    "one size": (
        lambda: Keeps(nn.LayerNorm((4, 24, 24))),
        (24, 24),
        "H and W exactly 24",
    ),
}  # fmt: skip


def takes(model: nn.Module, size: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad(), torch.device("meta"):
            model(torch.empty(1, 4, *size))
    except (RuntimeError, ValueError):
        return False
    return True


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", MAPS)
def test_rule_says_what_brute_force_does(name: str) -> None:
    build, size, words = MAPS[name]

    with bench(build(), SAME, 1, 4, *size) as made:
        seen = sweep(made)
    rule = fit_rule(seen.swapped)

    assert str(rule) == words
    assert isinstance(rule, SizeRule)
    model = build().to("meta").eval()
    sizes = [(n, n) for n in range(1, 65)] + list(product(range(1, 65, 3), repeat=2))
    sizes += [(h, w) for h in range(10, 65, 7) for w in range(1, 65)]
    assert [s for s in sizes if rule.takes(s) is not takes(model, s)] == []


@pytest.mark.parametrize(
    ("group", "words"), [(4, "L divisible by 4"), (1, "any"), (7, "L divisible by 7")]
)
@pytest.mark.parametrize("indices", [False, True], ids=["vectors", "indices"])
def test_length_of_a_sequence_has_its_rule(indices: bool, group: int, words: str) -> None:
    model, length = Tokens(group, indices=indices), 4 * group
    given = TensorInput(shape=(1, length) if indices else (1, length, 8))
    if indices:
        given = TensorInput.model_validate({"shape": (1, length), "dtype": "int64"})
    mask = TensorInput(shape=(1, 1, length, length))
    rule = '{match: gate, with: "torch.nn:Linear", args: {in_features: 8, out_features: 8}}'

    with bench(model, rule, calls=(DummyCall((given,), {"mask": mask}),)) as made:
        (finding,) = sizes(made)

    assert (finding.status, finding.data["rule"]) == ("passed", words)
    assert finding.data["original"] == words
    assert [2 * length] in finding.data["accepted"]


def test_axis_that_varies_is_the_length_where_channels_come_first() -> None:
    model = nn.Sequential()
    model.gate = nn.Conv1d(6, 6, 3, padding=1)
    model.rest = nn.Conv1d(6, 2, 4, stride=4)
    rule = "{match: gate, with: 'torch.nn:Conv1d', args: {in_channels: 6, out_channels: 6, "

    finding = examined(model, rule + "kernel_size: 1}}", 1, 6, 32)

    assert finding.data["rule"] == "L at least 4"


def test_input_without_a_size_is_skipped() -> None:
    rule = '{match: "0", with: "torch.nn:Linear", args: {in_features: 8, out_features: 8}}'

    finding = examined(nn.Sequential(nn.Linear(8, 8)), rule, 1, 8)

    assert finding.status == "skipped"
    assert finding.what == (
        "which sizes it takes is not known: the dummy input has neither a map nor a sequence"
    )


class NeedsValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


def test_model_that_needs_values_is_skipped() -> None:
    finding = examined(Keeps(NeedsValues()), SAME, 1, 4, 8, 8)

    assert finding.status == "skipped"
    assert finding.what.startswith(
        "which sizes it takes is not known: its shapes depend on values: "
    )


class Outside(nn.Module):
    """Keeps a tensor outside its buffers, which only fake tensors support."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = [torch.zeros(4, 1, 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.kept[0]


def test_model_that_fails_on_meta_is_tried_on_fake_tensors() -> None:
    finding = examined(Keeps(Outside(), nn.AvgPool2d(4)), SAME, 1, 4, 8, 8)

    assert (finding.status, finding.data["rule"]) == ("passed", "H and W at least 4")


BRA = "{match: gate, with: BiLevelRoutingAttention, args: {n_win: 4, num_heads: 2, auto_pad: %s}}"


ALLOWED = "and say `sizes: narrower` in the recipe's `verify`"


def test_stricter_rule_fails_with_both_rules_the_place_and_the_option() -> None:
    finding = examined(Keeps(), BRA % "false", 1, 4, 16, 16)

    assert (finding.status, finding.path) == ("failed", "gate")
    assert finding.settings == (("auto_pad", True),)
    assert finding.what.startswith("it takes H and W divisible by 4; the original took any (")
    assert "17 x 17 is refused in 'gate" in finding.what
    assert "auto_pad is false" in finding.what
    assert finding.fix.startswith("set `auto_pad: true` in the rule at swap.yaml:3:")
    assert finding.data["rule"] == "H and W divisible by 4"
    assert finding.data["original"] == "any"
    assert 20 < finding.data["probes"] < 50
    assert [16, 16] in finding.data["accepted"]


class Window(nn.Module):
    """Windows without padding, of a side: (N, 4, H, W) -> (N, 4, H, W)."""

    def __init__(self, side: int = 4) -> None:
        super().__init__()
        self.side = side
        self.mix = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        s = self.side
        windows = x.view(n, c, h // s, s, w // s, s).permute(0, 2, 4, 3, 5, 1)
        out: torch.Tensor = self.mix(windows).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return out


class SquareAlone(nn.Module):
    """Takes square maps alone, as a token grid without its size does."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.mix(x.flatten(2).transpose(1, 2))
        side = int(tokens.shape[1] ** 0.5)
        out: torch.Tensor = tokens.transpose(1, 2).reshape(*x.shape[:2], side, side)
        return out


class AtMost(nn.Module):
    """Has positions for maps up to a side."""

    def __init__(self, side: int = 16) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(4, side, side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.positions[:, : x.shape[2], : x.shape[3]]


class Reflects(nn.Module):
    """Pads by reflection, which needs a map of more than three places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 7, padding=3, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out


def strided(stride: int) -> nn.Module:
    """Return a model whose smallest map has a stride, and that takes multiples of it alone."""
    down = nn.Conv2d(4, 4, stride, stride=stride)
    return Keeps(nn.PixelShuffle(2), stem=nn.Sequential(MultipleOf(stride), down))


class MultipleOf(nn.Module):
    """Refuses sides that a stride does not divide, as a detector does."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % self.stride or x.shape[3] % self.stride:
            raise ValueError(x.shape)
        return x


def here(cls: type[nn.Module]) -> str:
    return f"{{match: gate, with: '{__name__}:{cls.__name__}'}}"


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("model", "new", "size"),
    [
        (Keeps, Window, (16, 16)),
        (lambda: strided(8), Window, (64, 64)),
        (lambda: strided(8), Window, (64, 96)),
        (lambda: strided(8), SquareAlone, (64, 64)),
        (lambda: strided(32), Window, (640, 640)),
        (lambda: Keeps(stem=nn.Conv2d(4, 4, 3, 2, 1)), Window, (32, 32)),
        (Keeps, AtMost, (16, 16)),
        (Keeps, SquareAlone, (16, 16)),
    ],
    ids=["window", "stride 8", "rectangle", "square", "detector", "stem", "most", "any square"],
)
def test_a_size_that_is_lost_fails_and_the_recipe_may_allow_it(
    model: Callable[[], nn.Module], new: type[nn.Module], size: tuple[int, int]
) -> None:
    finding = examined(model(), here(new), 1, 4, *size)
    allowed = examined(model(), here(new), 1, 4, *size, verify="{sizes: narrower}")

    inside = "is refused in 'gate" in finding.what  # where it raises
    assert (finding.status, finding.path) == ("failed", "gate" if inside else ""), finding.what
    assert "; the original took " in finding.what
    assert " is refused" in finding.what
    assert finding.fix.endswith(ALLOWED)
    assert (allowed.status, allowed.what) == ("passed", finding.what)


def test_a_rectangle_by_the_stride_is_named_first() -> None:
    finding = examined(strided(32), here(SquareAlone), 1, 4, 640, 640)

    assert finding.data["stride"] == 32
    assert re.findall(r"; (\d+ x \d+) is refused", finding.what) == ["672 x 640"]


def test_sizes_far_below_the_dummy_inputs_are_reported_alone() -> None:
    finding = examined(Keeps(), here(Reflects), 1, 4, 16, 16)

    assert finding.status == "passed"
    assert finding.what.startswith("it takes H and W at least 4; the original took any")


class Patches(nn.Module):
    """Patches of 4 x 4 as tokens through the layer of the swap, put back into a map."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(4, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.embed(x)
        tokens: torch.Tensor = self.attention(self.norm(maps.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).reshape(maps.shape)


@pytest.mark.slow
def test_rectangle_whose_tokens_are_a_square_number_is_no_size_that_is_taken() -> None:
    rule = "{match: attention, with: BiLevelRoutingAttention, args: {n_win: 1, topk: 1}}"

    with bench(Patches(), rule, 1, 4, 32, 32) as made:
        seen = sweep(made)
        (found,) = sizes(made)

    assert found.status == "failed"
    assert found.data["rule"] == "H and W at least 4, with floor(H / 4) = floor(W / 4)"
    assert (seen.swapped[16, 64], seen.original[16, 64]) == (False, True)
    what = "attention: 64 tokens are a map of 4x16, which the call does not say"
    assert seen.told[16, 64].startswith(what)


def test_ends_of_the_original_are_closed_in_on_as_well() -> None:
    model = Keeps(nn.MaxPool2d(5, stride=1), stem=nn.Conv2d(4, 4, 3))
    rule = "{match: gate, with: BiLevelRoutingAttention, args: {n_win: 7, topk: 2}}"

    found = examined(model, rule, 1, 4, 58, 58)

    assert found.data["original"] == "H and W at least 7"


def test_option_lifts_the_rule() -> None:
    finding = examined(Keeps(), BRA % "true", 1, 4, 16, 16)

    assert finding.status == "passed"
    assert finding.what.startswith("it takes any (")
    assert finding.fix == ""


class FixedGate(nn.Module):
    """Takes one size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x)
        return out


class FlatGate(nn.Module):
    """Takes one area."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mix = nn.Linear(4 * size * size, 4 * size * size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x.flatten(1)).view_as(x)
        return out


@pytest.mark.parametrize(
    ("gate", "words", "inner"),
    [("FixedGate", "H and W exactly 16", "norm"), ("FlatGate", "H x W = 256 alone", "mix")],
)
def test_one_size_where_the_original_took_many_fails(gate: str, words: str, inner: str) -> None:
    rule = f"{{match: gate, with: '{__name__}:{gate}', args: {{size: 16}}, wants: NCHW}}"

    finding = examined(Keeps(), rule, 1, 4, 16, 16)

    assert finding.status == "failed"
    assert finding.what.startswith(f"it takes {words}; the original took any (")
    assert f"17 x 17 is refused in 'gate.{inner}'" in finding.what
    assert finding.fix == f"resize inputs to a size that it takes ({words}), {ALLOWED}"


def test_one_size_of_an_original_that_took_no_more_passes() -> None:
    rule = f"{{match: gate, with: '{__name__}:FixedGate', args: {{size: 16}}}}"

    finding = examined(Keeps(nn.LayerNorm((16, 16))), rule, 1, 4, 16, 16)

    assert (finding.status, finding.fix) == ("passed", "")
    assert finding.what.startswith("it takes H and W exactly 16 (")


class Crops(nn.Module):
    """Gives an even size."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]


def test_other_output_than_the_original_gave_is_a_refusal() -> None:
    finding = examined(Keeps(), f"{{match: gate, with: '{__name__}:Crops'}}", 1, 4, 16, 16)

    assert finding.data["rule"] == "H and W divisible by 2"
    assert "17 x 17 is refused: output was (1, 4, 17, 17), is now (1, 4, 16, 16)" in finding.what


def test_maps_of_other_sizes_follow_in_proportion() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.gate(x)
            return out + low.repeat_interleave(2, 2).repeat_interleave(2, 3)

    call = DummyCall((TensorInput(shape=(1, 4, 16, 16)),), {"low": torch.zeros(1, 4, 8, 8)})

    with bench(Two(), SAME, calls=(call,)) as made:
        rule = fit_rule(sweep(made).swapped)

    assert str(rule) == "H and W divisible by 2, or 1"


def state(model: nn.Module) -> list[Any]:
    flags = [module.training for module in model.modules()]
    return [flags, [(n, t.clone()) for n, t in model.state_dict().items()], list(model.modules())]


def test_sweep_leaves_the_model_as_it_was() -> None:
    with bench(GatedNet(), "{match: '*_attention', with: SEBlock}", 1, 3, 16, 16) as made:
        before = state(made.model)
        random = torch.get_rng_state()

        seen = sweep(made)

        after = state(made.model)
    assert torch.equal(random, torch.get_rng_state())
    assert (before[0], before[2]) == (after[0], after[2])
    assert all(
        a == b and torch.equal(x, y) for (a, x), (b, y) in zip(before[1], after[1], strict=True)
    )
    assert seen.refused == []


def test_sweep_that_may_try_no_other_size_reports_nothing() -> None:
    with (
        bench(Keeps(), BRA % "false", 1, 4, 16, 16) as made,
        pytest.raises(NoSweepError, match=r"^the model is large; `--thorough` tries other sizes$"),
    ):
        sweep(made, budget=0)


def test_size_that_shapes_alone_do_not_settle_is_left_out() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.shape[2] % 2 and x.sum() > 0 else x

    with bench(Keeps(Odd()), SAME, 1, 4, 16, 16) as made:
        seen = sweep(made)

    assert {high % 2 for high, _ in seen.swapped} == {0}


def test_all_that_a_call_holds_is_looked_at() -> None:
    tokens, image = torch.zeros(1, 77), {"shape": [1, 4, 8, 12]}
    call = DummyCall((3, [tokens, {"map": image}]), {"low": torch.zeros(1, 4, 4, 6), "flag": True})

    (way,) = varied(call)
    made = without_data(way.at((16, 18)), torch.float16, "meta")

    assert way.first == (8, 12)
    assert [t.shape for t in made.tensors] == [
        (1, 77),
        (1, 4, 16, 18),
        (1, 4, 8, 9),
    ]
    assert made.args[1][0].dtype is torch.float16
    assert (made.args[0], made.kwargs["flag"]) == (3, True)

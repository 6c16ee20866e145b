"""Swaps in which tokens become a map: only where the pass, the call or the rule says so."""

from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import ModswapError, ShapeError
from modswap.io.recipe.reader import parse_recipe
from modswap.nn.adapters import SiteAdapter
from modswap.ops.swap import prepare
from tests.models import TokenNet
from tests.recipes import UNEXAMINED

IDS = "{shape: [2, 16], dtype: int64, fill: {integers: [0, 9]}}"


class Words(nn.Module):
    """Embedded words through a layer: (N, L) of whole numbers -> (N, L, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.mix = nn.Linear(8, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(self.words(ids))
        return out


class Samples(nn.Module):
    """Samples of a sound through a layer: (N, 1, L) -> (N, L, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(1, 8, 3, padding=1)
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(self.line(x).transpose(1, 2))
        return out


class Queries(nn.Module):
    """Learned queries that see an image: (N, 3, H, W) -> (N, 16, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.queries = nn.Parameter(torch.zeros(1, 16, 8))
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = self.stem(x).flatten(2)  # (N, 8, L)
        seen = (self.queries @ pixels).softmax(-1) @ pixels.mT
        out: torch.Tensor = self.mix(self.queries + seen)
        return out


class Halves(nn.Module):
    """A layer that gives a quarter of its tokens: (N, L, 8) -> (N, L / 4, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mix = Quarter()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(self.norm(x))
        return out


class Quarter(nn.Module):
    """Every fourth token."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, ::4]


def rules(rule: str, inputs: str) -> str:
    return f"version: 1\ninputs: [{inputs}]\nreplace: [{{{rule}}}]\n{UNEXAMINED}"


def built(model: nn.Module, rule: str, inputs: str) -> nn.Module:
    recipe = parse_recipe(rules(rule, inputs), "swap.yaml", ".")
    return prepare(model.eval(), recipe, unreal=True).built[0].module


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Words(), IDS),
        (Samples(), "{shape: [2, 1, 16]}"),
        (Queries(), "{shape: [2, 3, 16, 16]}"),
    ],
)
@pytest.mark.parametrize("rule", ["with: SEBlock", "with: 'torch.nn:BatchNorm2d', wants: NCHW"])
def test_sequence_is_no_map_though_its_length_is_a_square(
    model: nn.Module, inputs: str, rule: str
) -> None:
    with pytest.raises(ShapeError, match="16 tokens do not come from a map") as raised:
        built(model, f"match: mix, {rule}", inputs)

    assert "set `grid: [H, W]` in its rule" in str(raised.value)
    kept = built(model, "match: mix, with: MultiHeadSelfAttention", inputs)
    assert type(kept).__name__ == "MultiHeadSelfAttention"


def test_tokens_of_an_image_are_its_map_and_one_of_another_shape_needs_the_rule() -> None:
    rule = "match: 'blocks.0.attn', with: ECA"

    square = built(TokenNet(), rule, "{shape: [1, 3, 16, 16]}")
    with pytest.raises(ShapeError, match=r"32 tokens are a map of 4x8.*set `grid: \[4, 8\]`"):
        built(TokenNet(), rule, "{shape: [1, 3, 16, 32]}")
    wide = built(TokenNet(), f"{rule}, grid: [4, 8]", "{shape: [1, 3, 16, 32]}")

    assert isinstance(square, SiteAdapter)
    assert square.grid is None
    assert isinstance(wide, SiteAdapter)
    assert wide.grid == (4, 8)


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("match: mix, with: ECA, grid: [4, 5]", "`grid` is 4x5, and the site is given 16 tokens"),
        ("match: mix, with: ECA, grid: [4]", "grid"),
        ("match: mix, with: ECA, grid: [0, 4]", "grid"),
        ("match: mix, with: ECA, grid: 4", "grid"),
    ],
)
def test_wrong_grid_is_refused(rule: str, what: str) -> None:
    with pytest.raises(ModswapError, match=what):
        built(Words(), rule, IDS)


def test_grid_of_a_rule_is_for_tokens_alone() -> None:
    with pytest.raises(ShapeError, match="its rule says `grid`, and it is given maps of 16x16"):
        built(TokenNet(), "match: patch, with: ECA, grid: [4, 4]", "{shape: [1, 3, 16, 16]}")


def test_sequence_is_not_pooled_as_a_map() -> None:
    rule = "match: mix, with: MultiHeadSelfAttention, adapt: true"

    with pytest.raises(ShapeError, match=r"turns \(1, 16, 8\) into \(1, 4, 8\)"):
        built(Halves(), rule, "{shape: [1, 16, 8]}")


@pytest.mark.parametrize("whole", [True, False])
def test_grid_of_a_rule_is_kept_in_the_file(whole: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Words().eval()
    torch.save(model if whole else model.state_dict(), tmp_path / "net.pt")
    text = rules("match: mix, with: CoordinateAttention, grid: [2, 8]", IDS)
    (tmp_path / "swap.yaml").write_text(text)
    allow = ["tests.*"]
    factory = None if whole else "tests.ops.test_token_maps:Words"
    loaded = modswap.load(tmp_path / "net.pt", allow=allow, model=factory)
    recipe = modswap.read_recipe(tmp_path / "swap.yaml")
    modswap.replace(loaded, recipe)
    modswap.save(loaded, tmp_path / "out.pt", recipe=recipe)
    ids = torch.arange(16).reshape(1, 16) % 9

    again = modswap.load(tmp_path / "out.pt", allow=allow, model=factory)

    assert torch.equal(again(ids), loaded(ids))
    tokens = again.get_submodule("words")(ids)
    inner = again.get_submodule("mix.module")
    expected = inner(tokens.view(1, 2, 8, 8).permute(0, 3, 1, 2)).flatten(2).mT
    torch.testing.assert_close(again(ids), expected)


class Windows(nn.Module):
    """A layer on the windows of a map, (N, windows, tokens, C): (N, 3, H, W) -> (N, C, H, W)."""

    def __init__(self, *, strided: bool = False) -> None:
        super().__init__()
        self.strided = strided
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        n, c, high, wide = x.shape
        x = x.view(n, c, high // 2, 2, wide // 2, 2)
        order = (0, 3, 5, 2, 4, 1) if self.strided else (0, 2, 4, 3, 5, 1)
        x = self.mix(x.permute(order).flatten(3, 4).flatten(1, 2))
        out: torch.Tensor = x.permute(0, 3, 1, 2).reshape(n, c, high, wide)
        return out


class Last(nn.Module):
    """A layer on maps whose channels come last: (N, 3, H, W) -> (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(self.stem(x).permute(0, 2, 3, 1))
        return out


def mixed(model: nn.Module, with_: str, more: str = "") -> str:
    """Return the layout in which a module takes the place of `mix`."""
    text = (
        f"version: 1\ninputs: [{{shape: [2, 3, 8, 12]}}]\n{UNEXAMINED}\n"
        f"replace: [{{match: mix, with: {with_}, adapt: true{more}}}]\n"
    )
    prepared = prepare(model, parse_recipe(text, "swap.yaml", "."))
    return prepared.built[0].blueprint.layout or ""


@pytest.mark.parametrize("with_", ["MultiHeadSelfAttention", "ECA", "BiLevelRoutingAttention"])
@pytest.mark.parametrize("strided", [False, True], ids=["blocks", "strided"])
def test_windows_of_a_map_are_no_map(with_: str, *, strided: bool) -> None:
    with pytest.raises(ShapeError, match="windows of a map, as the pass shows, and no map"):
        mixed(Windows(strided=strided), with_)

    assert mixed(Windows(strided=strided), "ECA", ", layout: NHWC") == "NHWC"


def test_map_whose_channels_come_last_is_one() -> None:
    assert mixed(Last(), "ECA", ", layout: NHWC") == "NHWC"
    assert mixed(Last(), "ECA") == "NHWC"

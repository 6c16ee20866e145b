"""Modules of the catalogue, exported at one size, return the same at other sizes.

Covers: construct, kernels.tracing, kernels.windows, routed_attention.adaptive.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import Adaptation
from modswap.core.seen.site import Layout
from modswap.core.seen.values import TensorInfo
from modswap.nn import (
    CATALOGUE,
    ACmix,
    BiLevelRoutingAttention,
    ConvGate,
    Replacement,
    SEBlock,
    SelfAttention,
    WindowAttention,
)
from modswap.nn.adapters import SiteAdapter
from modswap.nn.catalogue.row import read_options
from modswap.nn.construct import construct
from modswap.nn.kernels.tracing import recorded
from modswap.nn.kernels.windows import cut_off, filled_up
from modswap.nn.routed_attention.adaptive import adaptive_pool
from modswap.ops.examine.exporting.ways import WAYS, Flat
from tests.nn.sites import site

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters' own

Shape = tuple[int, ...]
Exported = Callable[[torch.Tensor], torch.Tensor]

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed (extra: hosts)",
)
onnx = pytest.param("onnx", marks=needs_onnx)
SLOW = pytest.mark.slow
every_row = pytest.mark.parametrize("row", CATALOGUE.values(), ids=list(CATALOGUE))
# windows of 4 pixels, or 4 windows along a side, divide 16x16 and 12x20 of these sizes
EVEN, ODD = (2, 8, 16, 16), (2, 8, 15, 22)
MAPS = [(1, 8, 12, 20), (3, 8, 15, 22), (2, 8, 16, 18), (1, 8, 18, 16), (1, 8, 17, 17), EVEN]
PIXELS = [(shape[0], *shape[2:], 8) for shape in MAPS]
TOKENS = [(1, 256, 8), (3, 324, 8), (2, 400, 8), (1, 144, 8)]
ARGS: dict[str, dict[str, Any]] = {
    "BiLevelRoutingAttention": {"n_win": 4, "topk": 3, "auto_pad": True},
    "WindowAttention": {"window_size": 4, "shift_size": 2},
}


def row_cases(ways: Sequence[str], quick: Mapping[str, str]) -> list[Any]:
    """Return every pair of a way and a row, pairs of slower ways marked as slow.

    Args:
        ways: The ways, `torchscript` the quickest.
        quick: The row that `make test` tries by a slower way.
    """
    found = []
    for way in ways:
        for name, row in CATALOGUE.items():
            marks = [needs_onnx] if way == "onnx" else []
            if way != "torchscript" and quick.get(way) != name:
                marks.append(SLOW)
            found.append(pytest.param(way, row, marks=marks, id=f"{way}-{name}"))
    return found


def made(row: Replacement, example: Shape, layout: Layout) -> nn.Module:
    place = site(TensorInfo(example, "float32"), layout=layout)
    options = read_options(row, ARGS.get(row.name, {}), str)
    return construct(row.fit(place, options, adapt=False)).eval()


def routed(**options: Any) -> nn.Module:
    """Return the attention with 4 windows along each side."""
    options = {"topk": 3, "auto_pad": True, "layout": "NCHW", **options}
    return BiLevelRoutingAttention(8, 2, 4, **options).eval()


def windowed(shift: int = 0) -> nn.Module:
    """Return the attention within windows of 4x4 pixels."""
    return WindowAttention(8, 2, 4, shift, layout="NCHW").eval()


def exported(way: str, module: nn.Module, example: Shape, axes: Shape) -> Exported:
    """Return a module exported from an example, the sizes of some axes left open."""
    x = torch.randn(example)
    with torch.no_grad():
        run = WAYS[way](Flat(module, (x,), {}), (x,), (axes,), [])

    def called(given: torch.Tensor) -> torch.Tensor:
        return run((given,))[0]

    return called


def assert_same(run: Exported, module: nn.Module, shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            expected = module(x)
            found = run(x)
        apart = (found - expected).abs().max() if found.shape == expected.shape else found.shape
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), (shape, apart)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("way", "row"),
    row_cases(
        ["torchscript", "pt2", "onnx"],
        {"pt2": "WindowAttention"},  # onnx: `windows` below
    ),
)
def test_row_exported_at_one_size_gives_the_same_at_others(row: Replacement, way: str) -> None:
    module = made(row, EVEN, "NCHW")

    run = exported(way, module, EVEN, (0, 2, 3))

    assert_same(run, module, MAPS)


@pytest.mark.one_in(3)
@every_row
def test_row_traced_at_one_image_takes_more(row: Replacement) -> None:
    module = made(row, EVEN, "NCHW")

    run = exported("torchscript", module, (1, *ODD[1:]), ())

    assert_same(run, module, MAPS)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("way", "row"), row_cases(["torchscript", "pt2"], {"pt2": "SelfAttention"})
)
def test_row_that_is_given_pixels_last_does_so_too(row: Replacement, way: str) -> None:
    module = made(row, PIXELS[-1], "NHWC")

    run = exported(way, module, PIXELS[-1], (0, 1, 2))

    assert_same(run, module, PIXELS)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("way", "row"), row_cases(["torchscript", "pt2"], {"pt2": "SelfAttention"})
)
def test_row_that_is_given_tokens_does_so_too(row: Replacement, way: str) -> None:
    module = made(row, (2, 256, 8), "NLC")

    run = exported(way, module, (2, 256, 8), (0, 1))

    assert_same(run, module, TOKENS)


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "refactored": lambda: routed(variant="refactored"),
    "refactored, masked": lambda: routed(variant="refactored", mask_padding=True),
    "masked": lambda: routed(mask_padding=True),
    "masked, without lepe": lambda: routed(mask_padding=True, side_dwconv=0),
    "without lepe": lambda: routed(side_dwconv=0),
    "all windows": lambda: routed(mask_padding=True, topk=16),
    "soft": lambda: routed(soft_routing=True, diff_routing=True, param_routing=True),
    "means": lambda: routed(kv_downsample_mode="ada_avgpool", kv_per_win=2),
    "means, masked": lambda: routed(
        kv_downsample_mode="ada_avgpool", kv_per_win=3, mask_padding=True
    ),
    "maxima": lambda: routed(kv_downsample_mode="ada_maxpool", kv_per_win=3),
    "maxima, masked": lambda: routed(
        kv_downsample_mode="ada_maxpool", kv_per_win=2, mask_padding=True
    ),
    "windows": windowed,
    "shifted windows": lambda: windowed(2),
    "strided ACmix": lambda: ACmix(8, 16, 5, stride=2, dilation=2).eval(),
    "causal": lambda: SelfAttention(8, 2, mask=True, layout="NCHW").eval(),
}


MARKS: dict[str, list[pytest.MarkDecorator]] = {"strided ACmix": []}


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("way", "variant"),
    [
        *(("torchscript", name) for name in VARIANTS),
        *(pytest.param("pt2", name, marks=MARKS.get(name, [SLOW])) for name in VARIANTS),
    ],
)
@pytest.mark.parametrize(
    "example", [pytest.param(EVEN, marks=SLOW, id="even"), pytest.param(ODD, id="odd")]
)
def test_variant_exported_with_or_without_padding_takes_both(
    variant: str, example: Shape, way: str
) -> None:
    module = VARIANTS[variant]()

    run = exported(way, module, example, (0, 2, 3))

    assert_same(run, module, MAPS)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    ["refactored, masked", "masked", "means, masked", "maxima, masked", "windows"],
)
def test_variant_in_onnx_takes_sizes_with_and_without_padding(variant: str) -> None:
    module = VARIANTS[variant]()

    run = exported("onnx", module, ODD, (0, 2, 3))

    assert_same(run, module, MAPS)


# In an exported program torch treats a size of 1 as a constant, because it broadcasts, and requires
# every other size to differ from 1: sizes of inputs, and of the windows that a module cuts.
LIMITS: dict[str, tuple[Callable[[], nn.Module], Shape, Shape]] = {
    "windows of one row": (routed, (2, 8, 5, 5), (2, 8, 4, 5)),
    "refactored windows of one row": (
        lambda: routed(variant="refactored"),
        (2, 8, 8, 8),
        (2, 8, 7, 8),
    ),
    "windows pooled to one row": (
        lambda: routed(kv_downsample_mode="avgpool", kv_downsample_ratio=2),
        (2, 8, 13, 13),
        (2, 8, 12, 13),
    ),
    "windows pooled to one row of maxima": (
        lambda: routed(kv_downsample_mode="maxpool", kv_downsample_ratio=2, mask_padding=True),
        (2, 8, 13, 13),
        (2, 8, 12, 13),
    ),
    "one row of windows": (lambda: windowed(2), (2, 8, 5, 5), (2, 8, 4, 5)),
    "output of one row": (lambda: ConvGate(8, stride=2).eval(), (2, 8, 3, 3), (2, 8, 1, 3)),
    "maps of one row": (lambda: SEBlock(8).eval(), (2, 8, 1, 2), (2, 8, 1, 2)),
}


@pytest.mark.parametrize(
    "limit",
    [
        "output of one row",
        *(
            pytest.param(name, marks=SLOW)
            for name in (
                "windows of one row",
                "refactored windows of one row",
                "windows pooled to one row",
                "windows pooled to one row of maxima",
                "one row of windows",
            )
        ),
    ],
)
def test_program_of_pt2_refuses_sizes_that_make_one_of_something(limit: str) -> None:
    make, smallest, below = LIMITS[limit]
    module = make()

    run = exported("pt2", module, EVEN, (0, 2, 3))

    assert_same(run, module, [smallest, *MAPS[:2]] if smallest[2] < 12 else [smallest])
    module(torch.randn(below))
    with pytest.raises(AssertionError, match="Guard failed"):
        run(torch.randn(below))


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("way", "limit"),
    [
        *(("torchscript", name) for name in LIMITS),
        *(
            pytest.param(
                "onnx", name, marks=[needs_onnx, SLOW][: 1 + (name != "output of one row")]
            )
            for name in LIMITS
        ),
    ],
)
def test_other_ways_take_those_sizes(limit: str, way: str) -> None:
    make, smallest, below = LIMITS[limit]
    module = make()

    run = exported(way, module, EVEN, (0, 2, 3))

    assert_same(run, module, [smallest, below])


def test_program_of_pt2_exported_at_one_image_refuses_more() -> None:
    module = SEBlock(8).eval()

    run = exported("pt2", module, (1, *EVEN[1:]), (0, 2, 3))

    assert_same(run, module, [(1, 8, 15, 22)])
    with pytest.raises(AssertionError, match=r"Guard failed: .*size\(\)\[0\] == 1"):
        run(torch.randn(2, 8, 15, 22))


@needs_onnx
@pytest.mark.slow
def test_onnx_of_tokens_put_into_a_square_takes_that_number_alone() -> None:
    # torch has no ONNX for the square root of a size
    module = made(CATALOGUE["SEBlock"], (2, 256, 8), "NLC")

    run = exported("onnx", module, (2, 256, 8), (0, 1))

    assert_same(run, module, [(1, 256, 8), (3, 256, 8)])
    with pytest.raises(Exception, match="Reshape"):
        run(torch.randn(2, 324, 8))


class Told(nn.Module):
    """Passes height and width to its attention, as pyramid vision transformers do."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        y: torch.Tensor = self.attention(x.flatten(2).transpose(1, 2), height, width)
        return y.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    "way",
    [
        "torchscript",
        pytest.param("pt2", marks=SLOW),
        pytest.param("onnx", marks=[needs_onnx, SLOW]),
    ],
)
def test_height_and_width_that_a_host_passes_are_those_of_each_call(way: str) -> None:
    around = SiteAdapter(windowed(2), layout="NLC", wants="NCHW", ignores=("1", "2"))
    module = Told(around).eval()

    run = exported(way, module, EVEN, (0, 2, 3))

    assert_same(run, module, MAPS)


class Attending(nn.Module):
    """Passes one tensor to its attention as query, key and value: (N, L, C) -> the same."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x * 2
        out: torch.Tensor = self.attention(tokens, tokens, value=tokens, need_weights=False)[0]
        return out


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", ["torchscript", "pt2", pytest.param("compile", marks=SLOW), onnx])
def test_key_and_value_that_are_the_query_are_one_tensor_in_a_graph_too(way: str) -> None:
    around = SiteAdapter(
        SelfAttention(8, 2),
        layout="NLC",
        wants="NLC",
        ignores=("need_weights",),
        repeats=("1", "value"),
        adaptation=Adaptation(8, 8, (1, 1), "tuple", 2),
    )
    module = Attending(around).eval()

    run = exported(way, module, (2, 256, 8), (0, 1))

    assert_same(run, module, TOKENS)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("size", [(6, 6), (7, 5), (2, 3), (1, 9), (4, 3)])
def test_pooling_of_graphs_is_torchs_adaptive_pooling(size: Shape, largest: bool) -> None:
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    theirs: nn.Module = nn.AdaptiveMaxPool2d(3) if largest else nn.AdaptiveAvgPool2d(3)

    ours = adaptive_pool(maps, 3, largest=largest)

    torch.testing.assert_close(ours, theirs(maps), rtol=1e-12, atol=1e-12)


def test_map_that_needs_no_padding_stays_the_same_tensor_outside_of_graphs() -> None:
    x = torch.randn(2, 8, 12, 3)

    assert filled_up(x, 8, 12) is x
    assert cut_off(x, 8, 12).data_ptr() == x.data_ptr()


class Asking(nn.Module):
    """Adds 1 if torch records a graph: (N, C) -> the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if recorded() else x


def test_graphs_for_other_sizes_differ_from_graphs_that_are_made_anew() -> None:
    x, module = torch.zeros(2, 3), Asking()

    compiled = torch.compile(module, backend="eager", fullgraph=True)
    traced: Any = torch.jit.trace(module, x)
    program = torch.export.export(module, (x,)).module()

    assert [run(x).sum().item() for run in (module, compiled, traced, program)] == [0, 0, 6, 6]

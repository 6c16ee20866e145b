"""The catalogue's row of bi-level routing attention: its options and how to fit them to a site."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modswap.core.decided.blueprint import Choice
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Site
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.catalogue.option_types import AtLeast1, MapChannels, OddOrZero
from modswap.nn.catalogue.row import Conflict, Options, Replacement
from modswap.nn.fit.inputs import MapInputs, Size
from modswap.nn.fit.sizes import choose, fit_channels, heads_of, nearest_divisor

N_WIN = 7  # as published
TOPK = 4  # as published
MAX_PADDED_RATIO = 1.3  # pixels of a padded map for each pixel of the map
MIN_WINDOWS = 3  # with fewer windows on a side routing has little choice, so padding is preferred


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError
    return value


class BiLevelRoutingAttentionOptions(Options):
    """Options of `BiLevelRoutingAttention` in a recipe."""

    dim: MapChannels = None
    num_heads: AtLeast1 | None = Field(
        None, description="attention heads; divides dim and qk_dim; auto: of about 32 channels"
    )
    n_win: AtLeast1 | None = Field(
        None, description="windows along each side; auto: 7, or what suits the map"
    )
    qk_dim: AtLeast1 | None = Field(
        None, description="channels of queries and keys over all heads; auto: dim"
    )
    qk_scale: Annotated[float, AfterValidator(_not_zero)] | None = Field(
        None,
        description="factor of the logits; auto: qk_dim^-0.5",
        json_schema_extra={"expected": "a number other than 0, or auto"},
    )
    kv_per_win: AtLeast1 = Field(4, description="keys along each side of a window (ada_… modes)")
    kv_downsample_ratio: AtLeast1 = Field(4, description="pooling size (avgpool, maxpool)")
    kv_downsample_kernel: AtLeast1 | None = Field(None, description="unused; auto: none")
    kv_downsample_mode: Literal["identity", "ada_avgpool", "ada_maxpool", "avgpool", "maxpool"] = (
        Field("identity", description="how keys and values become fewer")
    )
    topk: AtLeast1 | None = Field(
        None,
        description="windows that each window attends to, up to n_win squared; auto: 4, or all",
    )
    param_attention: Literal["qkvo", "qkv"] = Field(
        "qkvo", description="which projections there are; qkv: none at the end"
    )
    param_routing: bool = Field(
        default=False, description="a projection for the routing; needs diff_routing"
    )
    diff_routing: bool = Field(
        default=False, description="gradients through the routing; needs soft_routing"
    )
    soft_routing: bool = Field(
        default=False, description="multiply keys and values by the routing weights"
    )
    side_dwconv: OddOrZero = Field(
        3,
        description="side of the depthwise convolution of the values, odd; 0: none",
        json_schema_extra={"expected": "an odd number, or 0 for none"},
    )
    auto_pad: bool | None = Field(
        None, description="fill up maps that n_win does not divide; auto: true, for other sizes"
    )
    variant: Literal["original", "refactored"] = Field(
        "original", description="refactored: the authors' later class, with its state-dict names"
    )
    mask_padding: bool = Field(
        default=False, description="leave filled-up pixels out of means, routing and attention"
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the pairs of options that exclude each other at every site."""
        yield from self._routing_conflicts()
        if self.variant == "refactored":
            yield from self._refactored_conflicts()
        for name, size in (("dim", self.dim), ("qk_dim", self.qk_dim)):
            if size and self.num_heads and size % self.num_heads:
                what = f"num_heads {self.num_heads} does not divide {name} {size}"
                heads = nearest_divisor(size, self.num_heads)
                fix = f"set `num_heads: {heads}`"
                yield Conflict("num_heads", what, fix, (("num_heads", heads),))
        if self.topk and self.n_win and self.topk > self.n_win**2:
            what = f"topk is {self.topk}, but n_win {self.n_win} gives {self.n_win**2} windows"
            fix = f"set `topk: {self.n_win**2}` or less"
            yield Conflict("topk", what, fix, (("topk", self.n_win**2),))

    def _routing_conflicts(self) -> Iterator[Conflict]:
        if self.diff_routing and not self.soft_routing:
            what = "diff_routing is true, soft_routing is false: no gradient would flow"
            settings = (("soft_routing", True),)
            yield Conflict("diff_routing", what, "set `soft_routing: true` as well", settings)
        if self.param_routing and not self.diff_routing:
            what = "param_routing is true, diff_routing is false: its weights would never train"
            settings = (("diff_routing", True),)
            yield Conflict("param_routing", what, "set `diff_routing: true` as well", settings)

    def _refactored_conflicts(self) -> Iterator[Conflict]:
        fixed = {
            "qk_dim": self.qk_dim is None or self.qk_dim == self.dim,
            "kv_downsample_mode": self.kv_downsample_mode == "identity",
            "param_attention": self.param_attention == "qkvo",
            "soft_routing": not self.soft_routing,
            "auto_pad": self.auto_pad is not False,
        }
        for name, holds in fixed.items():
            if not holds:
                what = f"variant is refactored, which has a fixed {name}"
                fix = f"leave `{name}` out, or take the original variant"
                yield Conflict(name, what, fix, ((name, "auto"),))


def _more(site: Site, inputs: MapInputs, options: BiLevelRoutingAttentionOptions) -> list[Choice]:
    heads = heads_of(site, "num_heads", options.num_heads, inputs.channels, options.qk_dim)
    windows = _windows(site, options, inputs.sizes)
    topk = _topk(options, windows[0].value)
    layout = Choice("layout", inputs.map_layout, _layout_reason(site, inputs))
    qk_dim = choose("qk_dim", options.qk_dim, inputs.channels, "as many as dim")
    return [heads, *windows, topk, layout, qk_dim]


def _layout_reason(site: Site, inputs: MapInputs) -> str:
    why = f": {site.layout_reason}" if site.layout_reason else ""
    if inputs.layout == "NLC":
        return f"tokens become maps of {inputs.sizes[0]}, the site is NLC{why}"
    return f"the site is {inputs.layout}{why}"


@dataclass(frozen=True, slots=True)
class _Grid:
    """A number of windows along each side of a site's maps."""

    n_win: int
    sizes: tuple[Size, ...]  # of the map in each call

    @property
    def divides(self) -> bool:
        """Return whether the windows divide every side."""
        return not any(s.height % self.n_win or s.width % self.n_win for s in self.sizes)

    @property
    def padded(self) -> float:
        """Return the pixels of the padded map for each pixel of the map, over the worst map."""
        return max(
            ceil(s.height / self.n_win) * ceil(s.width / self.n_win) * self.n_win**2
            / (s.height * s.width)
            for s in self.sizes
        )  # fmt: skip

    @property
    def window(self) -> int:
        """Return the smallest side of a window in pixels."""
        return min(ceil(min(s.height, s.width) / self.n_win) for s in self.sizes)

    def __str__(self) -> str:
        return ", ".join(str(size) for size in dict.fromkeys(self.sizes))


def _windows(
    site: Site, options: BiLevelRoutingAttentionOptions, sizes: tuple[Size, ...]
) -> tuple[Choice, Choice]:
    """Return `n_win` and `auto_pad`."""
    if options.n_win is None:
        grid = _best_grid(site, options, sizes)
    else:
        grid = _Grid(options.n_win, sizes)
        _check_grid(site, options, grid)
    n_win = choose("n_win", options.n_win, grid.n_win, _grid_reason(grid))
    divides = "divides" if grid.divides else "does not divide"
    # padding is on in either case: most hosts take other sizes than those of the dummy input
    reason = f"n_win {grid.n_win} {divides} {grid}, and other sizes stay possible"
    return n_win, choose("auto_pad", options.auto_pad, True, reason)  # noqa: FBT003 - the value


def _min_window(options: BiLevelRoutingAttentionOptions) -> int:
    """Return the pixels that a side of a window needs for its pooling."""
    pools = options.kv_downsample_mode in {"avgpool", "maxpool"}
    return options.kv_downsample_ratio if pools else 1


def _best_grid(
    site: Site, options: BiLevelRoutingAttentionOptions, sizes: tuple[Size, ...]
) -> _Grid:
    """Return the published grid if it costs little, else an exact one, else one with padding."""
    grids = _possible_grids(site, options, sizes)
    exact = [grid for grid in grids if grid.divides]
    cheap = [grid for grid in grids if grid.padded <= MAX_PADDED_RATIO]
    cheap = [] if options.auto_pad is False else cheap
    published = [grid for grid in cheap if grid.n_win == N_WIN]
    best = published or [grid for grid in exact if grid.n_win >= MIN_WINDOWS] or cheap or exact
    if best:
        return best[0]
    what = f"topk {options.topk} needs more windows than divide {grids[0]}, and auto_pad is false"
    fix = "set `auto_pad: true`, or leave it out"
    raise ShapeError(what, site.path, fix, settings=(("auto_pad", True), ("auto_pad", "auto")))


def _possible_grids(
    site: Site, options: BiLevelRoutingAttentionOptions, sizes: tuple[Size, ...]
) -> list[_Grid]:
    """Return the grids whose windows are wide enough to pool and as many as `topk`."""
    most = min(N_WIN, *(min(size.height, size.width) for size in sizes))
    grids = [_Grid(n_win, sizes) for n_win in range(most, 0, -1)]
    grids = [grid for grid in grids if grid.window >= _min_window(options)]
    if not grids:
        raise _too_small(site, options, _Grid(1, sizes))
    routed = [grid for grid in grids if grid.n_win**2 >= (options.topk or 1)]
    if not routed:
        windows = grids[0].n_win ** 2
        what = f"topk is {options.topk}, but maps of {grids[0]} have at most {windows} windows"
        fix = f"set `topk: {windows}` or less"
        raise ShapeError(what, site.path, fix, settings=(("topk", windows),))
    return routed


def _grid_reason(grid: _Grid) -> str:
    how = "divides it" if grid.divides else f"padding makes it {grid.padded - 1:.0%} larger"
    return f"{grid} observed, {how}"


def _check_grid(site: Site, options: BiLevelRoutingAttentionOptions, grid: _Grid) -> None:
    """Refuse a given `n_win` that needs a forbidden padding, or pools more than a window."""
    if options.auto_pad is False and not grid.divides:
        what = f"n_win {grid.n_win} does not divide {grid}, and auto_pad is false"
        fix = "set `auto_pad: true`, or leave one of them out"
        raise ShapeError(what, site.path, fix, settings=(("auto_pad", True),))
    smallest = min(min(size.height, size.width) for size in grid.sizes)
    if options.variant == "refactored" and smallest < grid.n_win:
        what = f"n_win {grid.n_win} is above a side of {grid}, and variant is refactored"
        fix = f"set `n_win: {smallest}` or less"
        raise ShapeError(what, site.path, fix, settings=(("n_win", smallest),))
    if grid.window < _min_window(options):
        raise _too_small(site, options, grid)


def _too_small(site: Site, options: BiLevelRoutingAttentionOptions, grid: _Grid) -> ShapeError:
    what = (
        f"kv_downsample_ratio {options.kv_downsample_ratio} is larger than the windows: n_win "
        f"{grid.n_win} cuts {grid} into windows with sides of {grid.window}"
    )
    fix = f"set `kv_downsample_ratio: {grid.window}` or less"
    return ShapeError(what, site.path, fix, settings=(("kv_downsample_ratio", grid.window),))


def _topk(options: BiLevelRoutingAttentionOptions, n_win: int) -> Choice:
    windows = n_win**2
    reason = f"of {windows} windows" if windows > 1 else "the only window"
    return choose("topk", options.topk, min(TOPK, windows), reason)


ROW = Replacement(
    name="BiLevelRoutingAttention",
    summary="attention of every pixel to the few windows that matter to its own window",
    source="Zhu et al., BiFormer, CVPR 2023, arXiv:2303.08810",
    shapes="(N, C, H, W), (N, H, W, C) or (N, L, C) -> the same",
    options=BiLevelRoutingAttentionOptions,
    fit=fit_channels("BiLevelRoutingAttention", "dim", _more),
    module=BiLevelRoutingAttention,
    terms={"P": "ceil(H/n_win)*ceil(W/n_win)*n_win**2"},
    flops="2*P*dim*(2*qk_dim + dim + side_dwconv**2) + 2*H*W*dim**2 + 2*n_win**4*qk_dim"
    " + 2*topk*P**2//n_win**2*(qk_dim + dim)",
    memory="itemsize*P*(2*qk_dim + 6*dim)",
    spellings=("BRA", "BiFormer", "BiFormerAttention", "BiLevelRoutingAttentionNCHW"),
    example="""\
- match: "**.attn"
  with: BiLevelRoutingAttention
  args: {n_win: 7, topk: 4}  # what is left out is taken from the site
""",
)

"""The catalogue's row of ACmix: its options and how to fit them to a site."""

from collections.abc import Iterator

from pydantic import Field

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Site
from modswap.nn.acmix import ACmix
from modswap.nn.catalogue.option_types import AtLeast1, Odd, OddOrAuto, OutChannels, Stride
from modswap.nn.catalogue.row import Conflict, Options, Replacement
from modswap.nn.fit.inputs import Size, read_inputs
from modswap.nn.fit.sizes import Draft, channels_of, choose, nearest_divisor
from modswap.nn.fit.stride import other_size, output_choices

KERNEL_ATT = 7  # as published
HEAD = 4  # as published


class ACmixOptions(Options):
    """Options of `ACmix` in a recipe."""

    in_planes: AtLeast1 | None = Field(
        None, description="channels of the input; auto: those observed"
    )
    out_planes: OutChannels = None
    kernel_att: OddOrAuto = Field(
        None, description="side of the window that a pixel attends to, odd; auto: 7, or what fits"
    )
    head: AtLeast1 | None = Field(
        None, description="attention heads; divides out_planes; auto: 4, or the nearest divisor"
    )
    kernel_conv: Odd = Field(3, description="side of the convolution's kernel, odd")
    stride: Stride = None
    dilation: AtLeast1 = Field(1, description="pixels from one key of a window to the next")

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the pairs of options that exclude each other at every site."""
        if self.out_planes and self.head and self.out_planes % self.head:
            what = f"head {self.head} does not divide out_planes {self.out_planes}"
            near = nearest_divisor(self.out_planes, self.head)
            yield Conflict("head", what, f"set `head: {near}`", (("head", near),))


def fit(site: Site, options: ACmixOptions, *, adapt: bool) -> Blueprint:
    """Return how to make the layer for a site, as `Fit` says."""
    inputs = read_inputs(site)
    planes = channels_of(site, inputs, "in_planes", options.in_planes)
    out, stride = output_choices(site, inputs, options, planes, "out_planes")
    kernel = _kernel_att(site, options, inputs.sizes)
    head = _head(site, options, out.value)
    draft = Draft("ACmix", site, inputs, options, [planes, kernel, head], "NCHW")
    return other_size(draft, out, stride, adapt=adapt)


def _kernel_att(site: Site, options: ACmixOptions, sizes: tuple[Size, ...]) -> Choice:
    least = min(sizes, key=lambda size: min(size.height, size.width))
    most = 2 * ((min(least.height, least.width) - 1) // options.dilation) + 1
    if options.kernel_att is not None and options.kernel_att > most:
        what = (
            f"kernel_att {options.kernel_att} with dilation {options.dilation} reflects "
            f"{options.kernel_att // 2 * options.dilation} pixels, the map is {least}"
        )
        fix = f"set `kernel_att: {most}` or less, or leave it out"
        settings = (("kernel_att", most), ("kernel_att", "auto"))
        raise ShapeError(what, site.path, fix, settings=settings)
    side = min(KERNEL_ATT, most)
    reason = "as published" if side == KERNEL_ATT else f"the largest that fits a map of {least}"
    return choose("kernel_att", options.kernel_att, side, reason)


def _head(site: Site, options: ACmixOptions, planes: int) -> Choice:
    near = nearest_divisor(planes, options.head or HEAD)
    if options.head is not None and planes % options.head:
        what = f"head {options.head} does not divide out_planes {planes}"
        fix = f"set `head: {near}`, or leave it out"
        raise ShapeError(what, site.path, fix, settings=(("head", near), ("head", "auto")))
    reason = "as published" if near == HEAD else f"{HEAD} does not divide {planes} channels"
    return choose("head", options.head, near, reason)


ROW = Replacement(
    name="ACmix",
    summary="local self-attention and a convolution that share their projections",
    source="Pan et al., On the Integration of Self-Attention and Convolution, CVPR 2022,"
    " arXiv:2111.14556",
    shapes="(N, in_planes, H, W) -> (N, out_planes, ceil(H / stride), ceil(W / stride))",
    options=ACmixOptions,
    fit=fit,
    module=ACmix,
    terms={"P": "ceil(H/stride)*ceil(W/stride)"},
    flops="6*H*W*in_planes*out_planes + 4*H*W*(out_planes//head)"
    " + 6*head*out_planes*kernel_conv**2*(kernel_conv**2 + P) + 4*P*kernel_att**2*out_planes",
    memory="itemsize*out_planes*(8*H*W + 4*P)",
    spellings=("ACmixAttention", "ACMixBlock"),
    example="""\
- match: "layer4.*.conv2"
  with: ACmix
  args: {head: 8, kernel_att: 7}  # what is left out is taken from the site
""",
)

"""A convolution, with the batch norm behind it, in modules of the catalogue that hold one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import nn

from modswap.nn.acmix import ACmix
from modswap.nn.conv_gate import ConvGate
from modswap.nn.inherit.attention_rows import Given, UnfitFormError
from modswap.nn.inherit.plain_convolution import plain_convolution
from modswap.nn.inherit.respelling import neutral_tensors

Norm = nn.BatchNorm2d
MAX_RESIDUAL_SHOWN = 1e-6  # below it a convolution counts as held exactly


@dataclass(frozen=True, slots=True)
class ConvReading:
    """The places of a convolution, and of the batch norm behind it, in a module."""

    conv: str  # name of the layer; empty for the module itself
    layer: nn.Conv2d  # of its geometry
    norm: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """Return the names of the tensors that it reads."""
        own = {_dotted(self.conv, name) for name in ("weight", "bias")}
        if self.norm is not None:
            norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            own |= {_dotted(self.norm, name) for name in norm}
        return own


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def read_convolution(module: nn.Module) -> ConvReading | None:
    """Return the places of the only convolution of a module; None if there are other layers.

    Layers behind it without parameters, such as an activation, are noted.
    """
    layers = dict(_layers(module))
    kinds = {n: _kind(one) for n, one in layers.items() if type(one) is not nn.Identity}
    held = [name for name, kind in kinds.items() if kind in {nn.Conv2d, Norm}]
    if [kinds[name] for name in held] not in ([nn.Conv2d], [nn.Conv2d, Norm]):
        return None
    conv = layers[held[0]]
    if not isinstance(conv, nn.Conv2d) or _others(module, held):
        return None
    plain = plain_convolution(conv)
    if plain is None:
        return None
    notes = (f"{kind.__name__} {n!r} is left out" for n, kind in kinds.items() if n not in held)
    return ConvReading(held[0], plain, held[1] if len(held) > 1 else None, tuple(notes))


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules without children; a convolution is one even with a padding inside."""
    children = list(module.named_children())
    if not children or isinstance(module, nn.Conv2d):
        yield name, module
        return
    for own, child in children:
        yield from _layers(child, _dotted(name, own))


def _kind(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer, of convolutions the common one."""
    return nn.Conv2d if isinstance(layer, nn.Conv2d) else type(layer)


def _others(module: nn.Module, held: list[str]) -> set[str]:
    """Return the parameters of a module that are in none of some layers."""
    own = {
        _dotted(name, one)
        for name in held
        for one, _ in module.get_submodule(name).named_parameters()
    }
    return set(dict(module.named_parameters())) - own


@dataclass(frozen=True, slots=True)
class Convolution:
    """A dense convolution (O, I, k, k) with a bias; the batch norm behind it is folded in."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    layer: nn.Conv2d  # for its stride, padding and dilation


def convolution_of(
    module: nn.Module, reading: ConvReading, state: Mapping[str, torch.Tensor]
) -> Convolution:
    """Return a module's convolution in float64, its groups filled up with zeros.

    `state` has the module's values.

    Raises:
        UnfitFormError: If its batch norm keeps no statistics.
    """
    layer = reading.layer

    def value(layer: str, name: str) -> torch.Tensor | None:
        found = state.get(_dotted(layer, name))
        return None if found is None else found.double()

    weight = _dense(state[_dotted(reading.conv, "weight")].double(), layer.groups)
    bias = value(reading.conv, "bias")
    if reading.norm is None:
        return Convolution(weight, bias, layer)
    norm = module.get_submodule(reading.norm)
    assert isinstance(norm, Norm)  # noqa: S101 - as it was read
    mean, var, scale, offset = (
        value(reading.norm, name) for name in ("running_mean", "running_var", "weight", "bias")
    )
    if mean is None or var is None:
        raise UnfitFormError("its batch norm keeps no statistics, so that it cannot be folded in")
    factor = (var + norm.eps).rsqrt()
    factor = factor if scale is None else factor * scale
    shift = ((0 if bias is None else bias) - mean) * factor
    bias = shift if offset is None else shift + offset
    return Convolution(weight * factor[:, None, None, None], bias, layer)


def _dense(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Return a grouped kernel (O, I / groups, k, k) as a dense one (O, I, k, k)."""
    if groups == 1:
        return weight
    out, each = weight.shape[:2]
    dense = weight.new_zeros(groups, out // groups, groups, each, *weight.shape[2:])
    for group, part in enumerate(weight.chunk(groups)):
        dense[group, :, group] = part
    return dense.reshape(out, groups * each, *weight.shape[2:])


def mixed_arguments(layer: nn.Conv2d) -> dict[str, int]:
    """Return the arguments of ACmix that follow from a convolution."""
    side = layer.kernel_size[0]
    return {"kernel_conv": side} if side % 2 and side > 1 else {}


def give_mixed(form: Convolution, module: ACmix, sources: tuple[str, str]) -> Given:
    """Return the state of ACmix whose convolution path is a convolution, or the nearest to it.

    Each group of `head` outputs passes min(k², 3 heads) linear maps of the input: the best of them
    are those of the largest singular values. `sources` name the weight and the bias.

    Raises:
        UnfitFormError: If the kernel, stride or dilation is none that the path has.
    """
    layer, side = form.layer, module.kernel_conv
    _check_geometry(layer, side, module.stride)
    rank = min(side**2, 3 * module.head)
    given = Given()
    like = form.weight
    outs, ins = like.shape[:2]
    if (ins, outs) != (module.in_planes, module.out_planes):
        raise UnfitFormError(f"it maps {ins} channels to {outs}, not {module.in_planes}")
    _start(given, module, like)
    names = ("weight", "bias")
    if like.is_meta:
        for name in ("conv1", "conv2", "conv3"):
            for kind, source in zip(names, sources, strict=True):
                given.put(f"{name}.{kind}", getattr(getattr(module, name), kind), source)
        given.put("dep_conv.weight", module.dep_conv.weight, sources[0])
        given.notes.append("how near it comes to the old convolution follows from its values")
        return given
    path = _nearest(form, module, rank)
    for index, name in enumerate(("conv1", "conv2", "conv3")):
        rows = slice(index * outs, (index + 1) * outs)
        given.put(f"{name}.weight", path.into[rows, :, None, None], sources[0])
        given.put(f"{name}.bias", path.shift[rows], sources[1])
    given.put("dep_conv.weight", path.kernel, sources[0])
    given.notes.append(path.text(rank))
    return given


def _start(given: Given, module: ACmix, like: torch.Tensor) -> None:
    """Let the convolution path alone count, and let its fc pass the first maps."""
    maps, each = module.fc.weight.shape[:2]
    eye = torch.eye(maps, each, dtype=like.dtype, device=like.device)
    given.put("fc.weight", eye[:, :, None, None], "identity")
    given.put("rate1", like.new_zeros(1), "zeros")
    given.put("rate2", like.new_ones(1), "ones")


def _check_geometry(layer: nn.Conv2d, side: int, stride: int) -> None:
    kernel, padding = layer.kernel_size, layer.padding
    wanted = tuple(size // 2 for size in kernel)
    same = padding in ("same", wanted, list(wanted))
    if layer.dilation != (1, 1) or not same or any(size % 2 == 0 for size in kernel):
        what = f"its kernel {kernel} with padding {padding} and dilation {layer.dilation}"
        raise UnfitFormError(f"{what} is none of the path, which has an odd side and half padding")
    if max(kernel) > side:
        raise UnfitFormError(f"its kernel is {kernel}, kernel_conv is {side}")
    if layer.stride != (stride, stride):
        raise UnfitFormError(f"its stride is {layer.stride}, that of the new module {stride}")


@dataclass(frozen=True, slots=True)
class _Path:
    """A convolution path near a convolution."""

    into: torch.Tensor  # weights of conv1, conv2 and conv3, (3 O, I)
    shift: torch.Tensor  # their biases
    kernel: torch.Tensor  # of dep_conv
    residual: float  # norm of the difference over the norm of the convolution
    ranks: int  # largest rank among the groups

    def text(self, rank: int) -> str:
        if self.residual < MAX_RESIDUAL_SHOWN:
            return "the convolution path holds the old convolution exactly"
        return (
            f"the convolution path holds the old convolution but for {self.residual:.3g} of its "
            f"norm: a group passes {rank} linear maps of the input, the old one has {self.ranks}"
        )


def _nearest(form: Convolution, module: ACmix, rank: int) -> _Path:
    """Return the path nearest to a convolution: of each group the largest singular values."""
    head, side, groups = module.head, module.kernel_conv, module.head_dim
    weight = form.weight
    outs, ins = weight.shape[:2]
    room = weight.new_zeros(outs, ins, side, side)
    top, left = ((side - size) // 2 for size in weight.shape[2:])
    room[:, :, top : side - top, left : side - left] = weight
    targets = room.reshape(groups, head, ins, side**2).transpose(2, 3)
    targets = targets.reshape(groups, head * side**2, ins)  # (groups, head k², I)
    u, s, v = torch.linalg.svd(targets, full_matrices=False)
    real = (s > s.amax() * 1e-12).sum(1)
    kept = min(rank, s.shape[1])
    root = s[:, :kept].sqrt()
    after = u[:, :, :kept] * root[:, None]  # (groups, head k², kept)
    before = root[..., None] * v[:, :kept]  # (groups, kept, I)
    out_bias = form.bias if form.bias is not None else weight.new_zeros(outs)
    kernel = weight.new_zeros(groups, head, side**2, side**2)  # maps, taps
    kernel[:, :, :kept] = after.reshape(groups, head, side**2, kept).transpose(2, 3)
    shift = weight.new_zeros(groups, 3 * head)
    _add_bias(kernel, shift, out_bias.reshape(groups, head), real, rank)
    into = weight.new_zeros(3 * head, groups, ins)
    into[:kept] = before.transpose(0, 1)
    lost = s[:, kept:].square().sum()
    return _Path(
        # a channel of conv1, conv2, conv3 is (head, group)
        into.reshape(3 * outs, ins),
        shift.T.reshape(3 * outs),
        kernel.reshape(outs, side**2, side, side),
        sqrt(float(lost / s.square().sum().clamp(min=1e-300))),
        int(real.max()),
    )


def _add_bias(
    kernel: torch.Tensor, shift: torch.Tensor, bias: torch.Tensor, real: torch.Tensor, rank: int
) -> None:
    """Add the output's bias (groups, head) to a path, by a map of its own where one is free.

    Where none is, biases of the maps sum up to it away from the border, as far as they can.
    """
    side2 = kernel.shape[-1]
    for group in range(len(kernel)):
        used = int(real[group])
        if not bool(bias[group].any()):
            continue
        if used < rank:
            kernel[group, :, used] = 0
            kernel[group, :, used, side2 // 2] = bias[group]
            shift[group, used] = 1
        else:
            sums = kernel[group, :, :rank].sum(-1)  # (head, maps)
            shift[group, :rank] = torch.linalg.pinv(sums) @ bias[group]


def give_gate(reading: ConvReading, module: ConvGate, state: Mapping[str, torch.Tensor]) -> Given:
    """Return the state of a gate that has the convolution of a module, and its batch norm.

    `state` has the module's values.

    Raises:
        UnfitFormError: If the convolution's shape or stride is another.
    """
    layer, own = reading.layer, module.conv
    names = ("kernel_size", "stride", "padding", "dilation", "in_channels", "out_channels")
    other = [name for name in names if getattr(layer, name) != getattr(own, name)]
    if other:
        what = f"its {other[0]} is {getattr(layer, other[0])}, that of the new convolution"
        raise UnfitFormError(f"{what} {getattr(own, other[0])}")
    given = Given()
    weight, bias = (_dotted(reading.conv, kind) for kind in ("weight", "bias"))
    given.put("conv.weight", _dense(state[weight], layer.groups), weight)
    zeros = state[weight].new_zeros(layer.out_channels)
    given.put("conv.bias", state.get(bias, zeros), bias if bias in state else "zeros")
    norm = module.bn.state_dict()
    start = None if reading.norm is None else f"{reading.norm}."
    for name in norm if start is not None else ():
        if f"{start}{name}" in state:
            given.put(f"bn.{name}", state[f"{start}{name}"], f"{start}{name}")
    for name, value in neutral_tensors(module, [f"bn.{name}" for name in norm]).items():
        if name not in given.values:
            given.put(name, value, "identity")
    return given

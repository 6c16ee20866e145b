"""The plain convolution that a subclass with a forward of its own computes, seen in a run."""

import copy
from collections.abc import Iterator

import torch
from torch import nn

_SEED = 0
_CLOSE = 1e-4  # of the largest value
_MORE = (3, 4)  # pixels by which an input is larger than the kernel's reach, an odd one too


def plain_convolution(layer: nn.Conv2d) -> nn.Conv2d | None:
    """Return a convolution without values, of the geometry that a layer shows in a run.

    A subclass may pad its input itself, as ports of TensorFlow's models do. None if it computes
    something else, as one does that standardises its weights, or hangs on the input's size.
    """
    if type(layer) is nn.Conv2d:
        return layer if layer.padding_mode == "zeros" else None
    own = {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())}
    if "weight" not in own or own - {"weight", "bias"} or layer.padding_mode != "zeros":
        return None
    try:
        probe = copy.deepcopy(layer).to_empty(device="cpu").float().eval()
        return _shown(probe)
    except Exception:  # noqa: BLE001 - the code of a user's class may fail in any way
        return None


@torch.no_grad()
def _shown(probe: nn.Conv2d) -> nn.Conv2d | None:
    generator = torch.Generator().manual_seed(_SEED)
    for tensor in probe.parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    reach = max(d * (k - 1) for d, k in zip(probe.dilation, probe.kernel_size, strict=True)) + 1
    given = [
        torch.randn(1, probe.in_channels, reach + more, reach + more, generator=generator)
        for more in _MORE
    ]
    wanted = [probe(x) for x in given]
    for padding in _paddings(probe):
        plain = _plain(probe, padding)
        found = [_run(plain, probe, x) for x in given]
        if all(_close(a, b) for a, b in zip(found, wanted, strict=True)):
            return plain
    return None


def _paddings(layer: nn.Conv2d) -> Iterator[tuple[int, int]]:
    """Yield its own padding, that which keeps the size, and none."""
    if not isinstance(layer.padding, str):
        height, width = layer.padding
        yield height, width
    sides = zip(layer.dilation, layer.kernel_size, strict=True)
    height, width = (d * (k - 1) // 2 for d, k in sides)
    yield height, width
    yield 0, 0


def _plain(layer: nn.Conv2d, padding: tuple[int, int]) -> nn.Conv2d:
    stride, dilation, kernel = (tuple(x) for x in (layer.stride, layer.dilation, layer.kernel_size))
    return nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (kernel[0], kernel[1]),
        (stride[0], stride[-1]),
        padding,
        (dilation[0], dilation[-1]),
        layer.groups,
        bias=layer.bias is not None,
        device="meta",
    )


def _run(plain: nn.Conv2d, probe: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.func.functional_call(plain, dict(probe.named_parameters()), (x,))
    return found


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    return bool((found - wanted).abs().amax() <= _CLOSE * wanted.abs().amax())

"""Read which windows the attention of new modules chooses in a picture that the model is given."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.errors import MissingModuleError, UsageError
from modswap.core.explained.routing import Box, RoutedWindows, SiteRouting
from modswap.live_values import live_tensors
from modswap.nn import BiLevelRoutingAttention
from modswap.nn.kernels.windows import count_windows
from modswap.ops.apply import module_at
from modswap.ops.first_input.from_file import DEVIATIONS, MEANS, picture_input, pillow
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case, DummyCall

MAX_SITES = 3
MAX_WINDOWS = 1024  # of all sites together
SIDE, QUALITY = 448, 80  # of the picture in a page
_CLOSE = 0.02  # by which a picture that is normalised again may leave 0 to 1


def pictured(call: DummyCall, image: Path | None) -> DummyCall:
    """Return a call with a picture for its first tensor of that kind, scaled to its size.

    Raises:
        UsageError: If the model takes no pictures of 3 channels.
        ModswapError: If the file cannot be read as one.
    """
    if image is None:
        return call
    taken = next((one for one in call.tensors if len(one.shape) == 4 and one.shape[1] == 3), None)
    if taken is None:
        what = f"the model takes {call}, no picture (N, 3, H, W)"
        raise UsageError(what, "--image", "leave it out")
    height, width = taken.shape[2:]
    picture = picture_input(image, (height, width))
    given = iter([picture.expand(taken.shape[0], -1, -1, -1)])
    return call.with_tensors(lambda one: next(given, one) if one.shape == taken.shape else one)


def site_routings(
    model: nn.Module, paths: Sequence[str], call: DummyCall
) -> tuple[SiteRouting, ...]:
    """Return the routing of the modules that have one, in a run of the model on a picture.

    Nothing where the call holds no picture: none of its live tensors is (N, 3, H, W) or
    (N, 1, H, W). The model stays as it is.
    """
    layers = {path: one for path in paths if (one := _routed_in(module_at(model, path)))}
    given = live_tensors((call.args, dict(call.kwargs)))
    picture = next((one for one in given if _is_picture(one)), None)
    jpeg = _jpeg(picture[0]) if picture is not None and layers else b""
    if picture is None or not jpeg:
        return ()
    seen: dict[str, RoutedWindows] = {}
    size = picture.shape[3], picture.shape[2]
    with _watched(dict([*layers.items()][:MAX_SITES]), size, seen):
        case = Case(call)
        with ready(model, case, 0) as (args, kwargs, dtype):
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
    return tuple(_within(SiteRouting(path, one, jpeg) for path, one in seen.items()))


def _within(found: Iterator[SiteRouting]) -> Iterator[SiteRouting]:
    left = MAX_WINDOWS
    for one in found:
        left -= len(one.windows.boxes)
        if left >= 0:
            yield one


def _routed_in(module: nn.Module) -> BiLevelRoutingAttention | None:
    """Return the first module with a routing in a new module; None if it has none."""
    return next((m for m in module.modules() if isinstance(m, BiLevelRoutingAttention)), None)


@contextmanager
def _watched(
    layers: dict[str, BiLevelRoutingAttention],
    size: tuple[int, int],
    seen: dict[str, RoutedWindows],
) -> Iterator[None]:
    """Note the routing of the first call of each layer."""
    maps: dict[str, tuple[int, int]] = {}

    def enter(path: str, layer: Any, args: Any) -> None:
        maps[path] = map_size(layer, args[0])

    def leave(path: str, _: Any, __: Any, out: Any) -> None:
        if path not in seen:
            seen[path] = windows_of(layers[path], maps[path], out, size)

    handles = [
        handle
        for path, layer in layers.items()
        for handle in (
            layer.register_forward_pre_hook(partial(enter, path)),
            layer.router.register_forward_hook(partial(leave, path)),
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def map_size(layer: Any, x: torch.Tensor) -> tuple[int, int]:
    """Return height and width of the map that a routed attention is given."""
    height, width = x.shape[1:3] if layer.layout == "NHWC" else x.shape[2:]
    return int(height), int(width)


def windows_of(
    layer: Any, size: tuple[int, int], routing: Any, picture: tuple[int, int]
) -> RoutedWindows:
    """Return the routing of the first sample, in pixels of a picture.

    Args:
        layer: The routed attention.
        size: Height and width of its map.
        routing: The output of its router.
        picture: Width and height of the picture.
    """
    rows, columns, boxes = _boxes(layer, size, picture)
    routes, weights = (part[0].tolist() for part in (routing.indices, routing.weights.float()))
    return RoutedWindows(
        width=picture[0],
        height=picture[1],
        rows=rows,
        columns=columns,
        boxes=boxes,
        routes=tuple(map(tuple, routes)),
        weights=tuple(map(tuple, weights)),
    )


def _boxes(
    layer: Any, size: tuple[int, int], picture: tuple[int, int]
) -> tuple[int, int, tuple[Box | None, ...]]:
    """Return the rows and columns of windows, and the place of each in the picture."""
    height, width = size
    if layer.variant == "original":
        rows = columns = layer.n_win
        h, w = (count_windows(side, layer.n_win) for side in size)
    else:
        h, w = height // layer.n_win, width // layer.n_win
        rows, columns = count_windows(height, h), count_windows(width, w)
    across, down = picture[0] / width, picture[1] / height

    def box(row: int, column: int) -> Box | None:
        top, left = row * h, column * w
        if top >= height or left >= width:
            return None
        right, bottom = min(left + w, width), min(top + h, height)
        return left * across, top * down, right * across, bottom * down

    found = tuple(box(row, column) for row in range(rows) for column in range(columns))
    return rows, columns, found


def _is_picture(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.shape[1] in {1, 3} and min(tensor.shape) > 0


def _jpeg(values: torch.Tensor) -> bytes:
    """Return the values (C, H, W) of a picture as JPEG; nothing where pillow is missing."""
    try:
        image = pillow("--format")
    except MissingModuleError:
        return b""
    pixels = (pixels_of(values.detach().float().cpu()) * 255).round().to(torch.uint8)
    height, width = pixels.shape[1:]
    mode = "RGB" if pixels.shape[0] == 3 else "L"
    data = bytes(pixels.permute(1, 2, 0).contiguous().flatten().tolist())
    shown = image.frombytes(mode, (width, height), data).convert("RGB")
    shown.thumbnail((SIDE, SIDE))
    stream = BytesIO()
    shown.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def pixels_of(values: torch.Tensor) -> torch.Tensor:
    """Return the values (C, H, W) that a model is given as pixels in 0 to 1.

    Values in 0 to 1 or 0 to 255 are pixels; others that ImageNet's means and deviations bring there
    were normalised by them; the rest is scaled from its least to its greatest value.
    """
    values = values.nan_to_num()
    means, deviations = (
        torch.tensor(some)[: values.shape[0]].view(-1, 1, 1) for some in (MEANS, DEVIATIONS)
    )
    ways: tuple[tuple[Callable[[torch.Tensor], torch.Tensor], float], ...] = (
        (lambda x: x, 0.0),
        (lambda x: x * deviations + means, _CLOSE),
        (lambda x: x / 255, 0.0),
    )
    for way, close in ways:
        pixels = way(values)
        if -close <= pixels.min() and pixels.max() <= 1 + close:
            return pixels.clamp(0, 1)
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-12)

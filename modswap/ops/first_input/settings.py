"""Sizes of pictures in the settings that files and models carry."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import nn

# keys of settings that hold the side, or sides, of a picture
SIDES = (
    *("imgsz", "img_size", "image_size", "input_size", "crop_size", "input_resolution"),
    *("sample_size", "img_dim", "im_size", "input_shape"),
)
CHANNELS = ("in_chans", "num_channels", "in_channels", "input_channels", "channels", "ch")
# attributes of a model, and of the part that takes its input, that hold settings
SETTINGS = (
    *("args", "config", "cfg", "hparams", "_hparams", "pretrained_cfg", "default_cfg", "yaml"),
    *("_internal_dict", "vision_config", "hyper_parameters"),
)
MAX_SIDE = 4096
MAX_ENTRIES = 500  # of settings that are looked at


class PictureSize(NamedTuple):
    """The size of a picture, as settings hold it."""

    sides: tuple[int, int]
    channels: int | None
    key: str
    where: str


def sizes_in(settings: Mapping[Any, Any], where: str) -> Iterator[PictureSize]:
    """Yield the sizes in settings and in settings inside them, two levels down."""
    for prefix, found in nested(settings):
        said = next((n for key in CHANNELS if (n := whole(found.get(key))) is not None), None)
        for key in SIDES:
            size = sides_of(found.get(key))
            if size is not None:
                yield PictureSize(size[0], size[1] or said, f"{prefix}{key}", where)


def nested(settings: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield settings, and those inside them two levels down, each with the prefix of its keys."""
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", settings)]
    for prefix, found in islice(waiting, MAX_ENTRIES):  # grows while it runs
        yield prefix, found
        if prefix.count(".") < 2:  # settings inside settings
            inner = ((key, mapping_of(value)) for key, value in islice(found.items(), MAX_ENTRIES))
            named = ((f"{prefix}{key}.", m) for key, m in inner if m and isinstance(key, str))
            waiting += islice(named, max(0, MAX_ENTRIES - len(waiting)))


def mapping_of(value: Any) -> Mapping[Any, Any] | None:
    """Return a value's settings: a mapping, or the attributes of plain data; None for others."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, (nn.Module, torch.Tensor, type)):
        return None
    own: Mapping[Any, Any] | None = None
    with suppress(TypeError):
        own = vars(value)
    return own


def sides_of(value: Any) -> tuple[tuple[int, int], int | None] | None:
    """Return height and width, and channels if they are there; None for what is no size."""
    if isinstance(value, Mapping):
        value = [value.get("height"), value.get("width")]
    numbers = value if isinstance(value, (list, tuple)) else [value, value]
    match [whole(number) for number in islice(numbers, 5)]:
        case [int() as height, int() as width]:
            return (height, width), None
        case [int() as channels, int() as height, int() as width]:
            return (height, width), channels
        case [int(), int() as channels, int() as height, int() as width]:
            return (height, width), channels
    return None


def whole(value: Any) -> int | None:
    """Return a number that a size may be; None for any other value."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_number and 0 < value <= MAX_SIDE else None

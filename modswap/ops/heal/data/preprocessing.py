"""Size, mean and standard deviation by which pictures become a model's input.

The values of the caller come first, then those of a folder's preprocessor, then those that the
file or its model holds in its settings (timm's `pretrained_cfg`), then those of its library.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch

from modswap.core.errors import InputError, ModswapError, UsageError
from modswap.core.words.printable import tame
from modswap.io.recognise.small_files import MAX_CONFIG_BYTES, read_json
from modswap.ops.first_input.said import settings_of_file, settings_of_model
from modswap.ops.first_input.settings import nested, sides_of, whole
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.run.inputs import Case
from modswap.ops.trace.passes import trace

Fit = Literal["crop", "stretch", "letterbox"]
Numbers = tuple[float, ...]

PREPROCESSOR = "preprocessor_config.json"
# keys of a mean and a standard deviation, in settings of timm, transformers and others
KEYS = (
    ("image_mean", "image_std"), ("mean", "std"), ("pixel_mean", "pixel_std"),
    ("img_mean", "img_std"),
)  # fmt: skip
MAX_OF_UNIT = 3.0  # a larger mean or deviation is one of pixels in 0 to 255
LETTERBOX_GREY = 114  # of Ultralytics
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
PLAIN = "since neither the file nor the call says otherwise"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The way from a picture to a model's input.

    Args:
        size: Height and width.
        mean: Means of the channels, of pixels in 0 to 1.
        std: Standard deviations of the channels.
        why: Where mean and deviation come from.
        known: Whether the caller, the file or its library says them.
        fit: `crop` takes the middle of the resized picture, `stretch` all of it, whose ratio of
            sides changes, `letterbox` all of it on grey.
        share: Share of the resized picture's shorter side that a crop keeps.
        resample: Pillow's name of the interpolation.
    """

    size: tuple[int, int]
    mean: Numbers
    std: Numbers
    why: str
    known: bool = True
    fit: Fit = "crop"
    share: float = 1.0
    resample: str = "bilinear"

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return len(self.mean)

    @property
    def numbers(self) -> str:
        """Return mean and deviation in words, and where they come from."""
        if set(self.mean) == {0.0} and set(self.std) == {1.0}:
            return f"in 0 to 1, {self.why}"
        return (
            f"normalised by mean {_shown(self.mean)} and deviation {_shown(self.std)}, {self.why}"
        )

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels, bytes (N, C, H, W), as the model is given them."""
        mean, std = (torch.tensor(one).view(1, -1, 1, 1) for one in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std


def _shown(numbers: Numbers) -> str:
    return ", ".join(f"{number:.3g}" for number in dict.fromkeys(numbers))


def preprocessing(taker: Taker, request: DataRequest, where: str) -> Preprocessing:
    """Return the preprocessing of a model that takes one picture.

    Raises:
        InputError: If the model takes none.
        UsageError: If the caller's numbers do not fit its channels.
    """
    place = taker.picture
    if place is None:
        what = f"pictures are given, but the model takes {taker.call}"
        raise InputError(what, where, "give arrays (.npy, .npz, .safetensors) or file.py:callable")
    channels, *sides = place.tensor.shape[1:]
    own = (sides[0], sides[1])
    found = next(_said(taker, channels), None) or _plain(channels, own)
    size = request.size or _taken_size(taker, found.size, own)
    told = _told(request, channels)
    mean, std, why, known = told or (found.mean, found.std, found.why, found.known)
    return Preprocessing(size, mean, std, why, known, found.fit, found.share, found.resample)


def _plain(channels: int, size: tuple[int, int]) -> Preprocessing:
    return Preprocessing(size, (0.0,) * channels, (1.0,) * channels, PLAIN, known=False)


def _told(request: DataRequest, channels: int) -> tuple[Numbers, Numbers, str, bool] | None:
    """Return the caller's mean and deviation, where there is one of them."""
    if request.mean is None and request.std is None:
        return None
    mean = _for_channels(request.mean or (0.0,), channels)
    std = _for_channels(request.std or (1.0,), channels)
    if mean is None or std is None or min(std) <= 0:
        what = f"mean {request.mean} and deviation {request.std} do not fit {channels} channels"
        fix = f"give one number or {channels}, deviations above 0"
        raise UsageError(what, "data", fix)
    return mean, std, "as given", True


def _for_channels(numbers: Numbers, channels: int) -> Numbers | None:
    """Return one number for each channel; None where there is another count of them."""
    if not all(map(math.isfinite, numbers)):
        return None
    numbers = tuple(map(float, numbers)) * (channels if len(numbers) == 1 else 1)
    return numbers if len(numbers) == channels else None


def _taken_size(taker: Taker, said: tuple[int, int], own: tuple[int, int]) -> tuple[int, int]:
    """Return the size that settings say, if the model takes it, or else that of its call."""
    if said == own:
        return own
    refused = trace(taker.model, Case(taker.call.resized(said)), unreal=True).cause
    return said if refused is None else own


def _said(taker: Taker, channels: int) -> Iterator[Preprocessing]:
    """Yield what a folder, a file, its model and its library say, the surest first."""
    place = taker.picture
    own = tuple(place.tensor.shape[2:]) if place else ()
    size = (own[0], own[1])
    if taker.folder is not None:
        with suppress(FileNotFoundError, ModswapError):  # the place of a hint, not of the model
            said = read_json(taker.folder / PREPROCESSOR, MAX_CONFIG_BYTES, folder=taker.folder)
            yield from _of_settings(said, f"as {PREPROCESSOR} says", channels, size)
    sources = settings_of_file(taker.container) if taker.container else iter(())
    for settings, where in (*sources, *settings_of_model(taker.model)):
        for prefix, inner in nested(settings):
            name = prefix.rstrip(".")
            why = f"as {name} in {where} says" if name else f"as {where} says"
            yield from _of_settings(inner, tame(why), channels, size)
    if type(taker.model).__module__.partition(".")[0] == "ultralytics":
        is_classifier = "Classif" in type(taker.model).__name__
        fit: Fit = "crop" if is_classifier else "letterbox"
        zeros, ones = (0.0,) * channels, (1.0,) * channels
        yield Preprocessing(size, zeros, ones, "as its library ultralytics has it", fit=fit)


def _of_settings(
    said: Any, why: str, channels: int, size: tuple[int, int]
) -> Iterator[Preprocessing]:
    """Yield the preprocessing in settings that hold a mean and a standard deviation."""
    if not isinstance(said, Mapping):
        return
    for pair in _pairs(said, channels):
        mean, std = _of_unit(said, *pair)
        fit, share = _fit(said)
        yield Preprocessing(
            size=_size(said) or size,
            mean=mean,
            std=std,
            why=why,
            fit=fit,
            share=share,
            resample=_resample(said),
        )


def _pairs(said: Mapping[Any, Any], channels: int) -> list[tuple[Numbers, Numbers]]:
    """Return means and deviations in settings."""
    if said.get("do_normalize") is False:
        return [((0.0,) * channels, (1.0,) * channels)]
    both = ((_numbers(said.get(a), channels), _numbers(said.get(b), channels)) for a, b in KEYS)
    return [(mean, std) for mean, std in both if mean and std and min(std) > 0]


def _of_unit(said: Mapping[Any, Any], mean: Numbers, std: Numbers) -> tuple[Numbers, Numbers]:
    """Return mean and deviation of pixels in 0 to 1."""
    factor = said.get("rescale_factor")
    scale = 1.0
    if said.get("do_rescale") is False:
        scale = 255.0
    elif isinstance(factor, float) and factor > 0:
        scale = 255 * factor
    elif max(*mean, *std) > MAX_OF_UNIT:
        scale = 255.0
    return tuple(one / scale for one in mean), tuple(one / scale for one in std)


def _numbers(value: Any, channels: int) -> Numbers | None:
    """Return one number for each channel of a list; None for anything else."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    is_plain = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value)
    return _for_channels(tuple(value), channels) if is_plain else None


def _size(said: Mapping[Any, Any]) -> tuple[int, int] | None:
    """Return the size of the input in settings: of the crop, where there is one."""
    values = [said[key] for key in ("input_size", "size") if key in said]
    if said.get("do_center_crop") and "crop_size" in said:
        values.insert(0, said["crop_size"])
    for value in values:
        edge = value.get("shortest_edge") if isinstance(value, Mapping) else None
        found = sides_of(edge if edge is not None else value)
        if found is not None:
            return found[0]
    return None


def _fit(said: Mapping[Any, Any]) -> tuple[Fit, float]:
    """Return how a picture is fitted into the size, and the share that a crop keeps."""
    size, crop = said.get("size"), said.get("crop_size")
    share = said.get("crop_pct")
    if isinstance(share, (int, float)) and 0 < share <= 1:
        return ("stretch" if said.get("crop_mode") == "squash" else "crop"), float(share)
    if said.get("do_center_crop"):
        edges = (_edge(crop), _edge(size))
        if edges[0] and edges[1]:
            return "crop", min(1.0, edges[0] / edges[1])
        return "crop", 1.0
    is_squashed = "do_resize" in said and not (isinstance(size, Mapping) and "height" not in size)
    return ("stretch" if is_squashed else "crop"), 1.0


def _edge(value: Any) -> int | None:
    """Return the shorter side in a size of transformers."""
    if isinstance(value, Mapping):
        value = value.get("shortest_edge", value.get("height"))
    return whole(value)


def _resample(said: Mapping[Any, Any]) -> str:
    """Return the interpolation, by the name of timm or the number of transformers."""
    name, number = said.get("interpolation"), said.get("resample")
    if isinstance(number, int) and 0 <= number < len(RESAMPLE):
        return RESAMPLE[number]
    return name if name in RESAMPLE else "bilinear"

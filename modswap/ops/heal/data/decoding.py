"""A picture that Pillow opened, as bytes of the size that a model takes."""

import warnings
from typing import Any

import torch

from modswap.ops.first_input.from_file import upright
from modswap.ops.heal.data.preprocessing import LETTERBOX_GREY, Preprocessing

MODES = {1: "L", 3: "RGB"}  # Pillow's names by the number of channels
_OF_16_BITS = 257  # 65,535 over 255


def fitted(image: Any, opened: Any, how: Preprocessing) -> torch.Tensor:
    """Return a picture as bytes (C, H, W); `image` is Pillow's module."""
    mode = MODES[how.channels]
    with warnings.catch_warnings(action="ignore"):  # on metadata and transparency
        edge = 2 * max(how.size)
        opened.draft(mode, (edge, edge))  # a large JPEG is decoded at half its size, or less
        picture = _in_mode(upright(opened), mode)
        resample = getattr(image.Resampling, how.resample.upper())
        sized = _WAYS[how.fit](image, picture, how, resample)
    height, width = how.size
    pixels = torch.frombuffer(bytearray(sized.tobytes()), dtype=torch.uint8)
    return pixels.view(height, width, how.channels).permute(2, 0, 1).contiguous()


def _in_mode(picture: Any, mode: str) -> Any:
    """Return a picture in grey or RGB, one of 16 bits a pixel scaled to 8."""
    if picture.mode.startswith("I;16"):
        picture = picture.convert("I")
    if picture.mode == "I" and picture.getextrema()[1] > 255:
        picture = picture.point(lambda value: value * (1 / _OF_16_BITS) + 0.5)
        picture = picture.convert("L")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert(mode)


def _cropped(image: Any, picture: Any, how: Preprocessing, resample: Any) -> Any:
    del image
    height, width = how.size
    scale = min(picture.height / height, picture.width / width) * how.share
    left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    return picture.resize((width, height), resample, box=box)


def _stretched(image: Any, picture: Any, how: Preprocessing, resample: Any) -> Any:
    del image
    return picture.resize(how.size[::-1], resample)


def _letterboxed(image: Any, picture: Any, how: Preprocessing, resample: Any) -> Any:
    height, width = how.size
    scale = min(height / picture.height, width / picture.width)
    scaled = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    grey = LETTERBOX_GREY if how.channels == 1 else (LETTERBOX_GREY,) * 3
    made = image.new(picture.mode, (width, height), grey)
    made.paste(
        picture.resize(scaled, resample), ((width - scaled[0]) // 2, (height - scaled[1]) // 2)
    )
    return made


_WAYS = {"crop": _cropped, "stretch": _stretched, "letterbox": _letterboxed}

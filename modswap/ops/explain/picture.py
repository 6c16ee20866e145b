"""Read a picture as a model's input, and draw over it; both need pillow."""

from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

from modswap.core.errors import CheckpointError, MissingModuleError, UsageError
from modswap.core.explained.drawing import LETTER, Drawing, Label, Mark, Rectangle, Stroke
from modswap.core.explained.words import Words
from modswap.ops.first_input.from_file import NoPictureError, decoded, normalised, upright

NORMALISED = Words(
    "the picture was scaled to {0}x{1} pixels and normalised by ImageNet's means and deviations",
    "图片已缩放到 {0}x{1} 像素，并按 ImageNet 的均值和标准差归一化",
)
# of a picture in a page: at most 640 x 640 pixels of noise have 0.3 MB
PAGE_SIDE, PAGE_QUALITY = 640, 80
_INSTALL = 'install it: pip install "modswap[pictures]"'


class Picture(NamedTuple):
    """A picture as input of a model, and as it is drawn."""

    tensor: torch.Tensor  # (1, C, H, W)
    png: bytes


def _pillow(where: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingModuleError(
            "pictures need pillow, which is missing", where, _INSTALL
        ) from None
    return Image


def read_picture(file: Path, shape: tuple[int, ...]) -> Picture:
    """Return a picture, scaled to the shape (N, C, H, W) of a model's input.

    Raises:
        CheckpointError: If it is no picture, or cannot be read.
        UsageError: If the model takes no pictures of 1 or 3 channels.
        MissingModuleError: If pillow is not installed.
    """
    if len(shape) != 4 or shape[1] not in {1, 3}:
        what = f"the model takes {shape}, no picture (N, 3, H, W) or (N, 1, H, W)"
        raise UsageError(what, "--image", "leave --image out")
    image = _pillow("--image")
    size = shape[3], shape[2]
    mode = "RGB" if shape[1] == 3 else "L"
    try:
        scaled = decoded(image, file, lambda opened: upright(opened).convert(mode).resize(size))
    except FileNotFoundError:
        fix = "check the name and the folder"
        raise CheckpointError("no such file", str(file), fix) from None
    except (OSError, NoPictureError) as error:
        what = f"it is no picture that can be read: {error}"
        raise CheckpointError(what, str(file), "name a JPEG, PNG or WebP file") from None
    raw = torch.frombuffer(bytearray(scaled.tobytes()), dtype=torch.uint8)
    pixels = raw.view(*shape[2:], shape[1]).permute(2, 0, 1)[None].float() / 255
    stream = BytesIO()
    scaled.convert("RGB").save(stream, "PNG")
    return Picture(normalised(pixels), stream.getvalue())


def page_picture(png: bytes | None) -> bytes:
    """Return a picture in PNG as a JPEG of few bytes for a page; nothing for none."""
    if png is None:
        return b""
    shown = _pillow("--image").open(BytesIO(png))
    shown.thumbnail((PAGE_SIDE, PAGE_SIDE))
    stream = BytesIO()
    shown.save(stream, "JPEG", quality=PAGE_QUALITY)
    return stream.getvalue()


def routing_png(drawing: Drawing, picture: bytes | None) -> bytes:
    """Return the drawing as PNG, twice as large, over a picture in PNG or over nothing.

    Raises:
        MissingModuleError: If pillow is not installed.
    """
    image = _pillow("--routing")
    from PIL import ImageDraw, ImageFont

    zoom = 2
    size = (drawing.width * zoom, drawing.height * zoom)
    canvas = image.new("RGB", size, "#ffffff")
    for box in drawing.pictures:
        left, top, right, bottom = (round(side * zoom) for side in box)
        part = image.new("RGB", (right - left, bottom - top), "#f6f8fa")
        if picture is not None:
            part = image.open(BytesIO(picture)).resize(part.size)
        canvas.paste(part, (left, top))
    font = ImageFont.load_default(LETTER * zoom)
    draw = ImageDraw.Draw(canvas, "RGBA")
    for mark in drawing.marks:
        _draw(draw, mark, zoom, font)
    stream = BytesIO()
    canvas.save(stream, "PNG")
    return stream.getvalue()


def _draw(draw: Any, mark: Mark, zoom: int, font: Any) -> None:
    if isinstance(mark, Rectangle):
        box = [side * zoom for side in mark.box]
        fill = (*_rgb(mark.color), round(255 * mark.opacity)) if mark.opacity else None
        line = max(1, round(mark.line * zoom)) if mark.line else 0
        draw.rectangle(box, fill, _rgb(mark.color) if line else None, line)
    elif isinstance(mark, Stroke):
        ends = [side * zoom for side in (*mark.start, *mark.end)]
        draw.line(ends, _rgb(mark.color), round(mark.width * zoom))
    else:
        _write(draw, mark, zoom, font)


def _write(draw: Any, mark: Label, zoom: int, font: Any) -> None:
    anchor = "mm" if mark.centred else "ls"
    at = tuple(side * zoom for side in mark.at)
    # pillow's own letters are Latin: the words of other scripts are in the SVG
    text = mark.text.encode("latin-1", "replace").decode("latin-1")
    draw.text(at, text, _rgb(mark.color), font, anchor)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue

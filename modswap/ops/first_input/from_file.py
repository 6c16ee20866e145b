"""Read an input of a model from a picture, or from an array of NumPy, whose code is not needed."""

import ast
import math
import os
import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from modswap.core.asked.job import ARRAY
from modswap.core.errors import CheckpointError, InputError, MissingModuleError, UnsafeError
from modswap.io.recognise.look import look_at, unreadable
from modswap.io.recognise.small_files import opened as opened_regular
from modswap.ops.load.closed import closed_off
from modswap.ops.run.describe import one_line

T = TypeVar("T")

# of ImageNet, by which most models' pictures are normalised
MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)
_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 1 << 16
_MAX_PICTURE_BYTES = 256 << 20
# dtypes by the names in the header of an array; the first character is the order of bytes
_DTYPES = {
    "f8": torch.float64, "f4": torch.float32, "f2": torch.float16, "i8": torch.int64,
    "i4": torch.int32, "i2": torch.int16, "i1": torch.int8, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
_PICTURE_FIX = "give a JPEG or PNG"


def read_input(text: str) -> tuple[torch.Tensor, str]:
    """Return the tensor in a file, and what it is in words.

    A picture is (1, 3, H, W), normalised; `photo.jpg:224x224` is resized.

    Raises:
        CheckpointError: If the file cannot be read.
        InputError: If it is no picture or array, or the size is none.
        MissingModuleError: If pictures cannot be read here.
    """
    name, _, size = text.partition(":")
    file = Path(name)
    if file.suffix.lower() == ARRAY and not size:
        tensor = _array(file)
        return tensor, f"the input is {name}, {tuple(tensor.shape)}"
    fix = f"{_PICTURE_FIX}, or an array: `--input x.npy`"
    tensor = picture_input(file, _size(size, text), fix)
    words = f"the input is {name} as {tuple(tensor.shape)}, RGB, normalised by ImageNet's means"
    return tensor, f"{words} and deviations"


def _size(text: str, whole: str) -> tuple[int, int] | None:
    if not text:
        return None
    sides = text.lower().split("x")
    if len(sides) == 2 and all(side.isdecimal() and 0 < int(side) < 1 << 15 for side in sides):
        return int(sides[0]), int(sides[1])
    what = f"{whole!r:.80} has no size of a picture behind its colon"
    raise InputError(what, "--input", "write photo.jpg:224x224, height and width")


def picture_input(
    file: Path, size: tuple[int, int] | None, fix: str = _PICTURE_FIX
) -> torch.Tensor:
    """Return the picture in a file, (1, 3, H, W), normalised, resized to a height and width.

    Raises:
        CheckpointError: If the file cannot be read.
        InputError: If it is no picture; `fix` says what to give.
        MissingModuleError: If pictures cannot be read here.
    """
    look_at(file)  # a pipe or a folder is refused
    image = pillow(str(file))

    def scaled(opened: Any) -> Any:
        picture = upright(opened).convert("RGB")
        return picture.resize(size[::-1]) if size is not None else picture

    try:
        picture = decoded(image, file, scaled)
    except OSError as error:
        raise unreadable(file, error) from None
    except NoPictureError as error:
        raise InputError(f"it is no picture: {error}", str(file), fix) from error
    data, (width, height) = picture.tobytes(), picture.size
    pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(height, width, 3)
    return normalised(pixels.permute(2, 0, 1)[None].float() / 255)


def pillow(where: str) -> Any:
    """Return Pillow's module, by which pictures are read.

    Raises:
        MissingModuleError: If it is not installed; `where` is the place of the pictures.
    """
    try:
        from PIL import Image
    except ImportError:
        what = "pictures need pillow, which is missing"
        fix = 'install it: pip install "modswap[pictures]"'
        raise MissingModuleError(what, where, fix) from None
    return Image


class NoPictureError(Exception):
    """Pillow knows no picture of its kind in a file, or a damaged one."""


def decoded(image: Any, file: Path, change: Callable[[Any], T]) -> T:
    """Return what a function makes of a picture; `image` is Pillow's module.

    Everything but computing is closed off: with Ultralytics imported, Pillow would install a
    package for a file that it does not know.

    Raises:
        OSError: If the file cannot be read.
        NoPictureError: If it cannot be decoded.
    """
    data = BytesIO(_picture_bytes(file))
    try:
        quiet = warnings.catch_warnings(action="error")
        with closed_off(str(file)), quiet, image.open(data) as opened:
            return change(opened)
    except Exception as error:  # Pillow's readers of damaged files raise anything
        unknown = isinstance(error, (image.UnidentifiedImageError, UnsafeError, ImportError))
        what = "Pillow knows no such kind" if unknown else one_line(error, 120)
        raise NoPictureError(what) from error


def _picture_bytes(file: Path) -> bytes:
    try:
        with opened_regular(file) as stream:
            nbytes = os.fstat(stream.fileno()).st_size
            if nbytes > _MAX_PICTURE_BYTES:
                most = f"{_MAX_PICTURE_BYTES:,}"
                raise NoPictureError(f"it has {nbytes:,} bytes, expected at most {most}")
            return stream.read(nbytes)
    except CheckpointError as error:  # a pipe or a device
        raise NoPictureError(error.what) from error


def upright(opened: Any) -> Any:
    """Return a photo turned as its camera notes."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(opened)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels (N, C, H, W) in 0 to 1, of 1 or 3 channels, as models are given them."""
    means, deviations = (
        torch.tensor(some)[: pixels.shape[1]].view(1, -1, 1, 1) for some in (MEANS, DEVIATIONS)
    )
    return (pixels - means) / deviations


def _array(file: Path) -> torch.Tensor:
    """Return the array in a file of NumPy; no object in it is made."""
    look = look_at(file)
    try:
        with file.open("rb") as stream:
            return _parsed(stream)
    except OSError as error:
        raise unreadable(file, error) from None
    except NO_ARRAY as error:
        raise look.error(*no_array(error)) from None


# errors of reading a file that is no array
NO_ARRAY = (
    ValueError, KeyError, SyntaxError, TypeError, struct.error, RecursionError, MemoryError,
)  # fmt: skip


def no_array(error: BaseException) -> tuple[str, str]:
    """Return fault and fix for a file that is no array."""
    what = f"it is no array of numbers that NumPy wrote: {error}"[:200]
    return what, "save it by numpy.save, as float32"


class ArrayHeader(NamedTuple):
    """The kind of the numbers of an array, its shape, and whether its columns are in a row."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    by_columns: bool

    @property
    def nbytes(self) -> int:
        """Return the bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def array_header(stream: Any) -> ArrayHeader:
    """Return the header of an array, whose numbers are next in the stream.

    Raises:
        ValueError: If it is none, or any other error of `NO_ARRAY`.
    """
    head = stream.read(8)
    if head[:6] != _MAGIC:
        raise ValueError("it begins otherwise")
    (length,) = struct.unpack("<H" if head[6] == 1 else "<I", stream.read(2 if head[6] == 1 else 4))
    if length > _MAX_HEADER_BYTES:
        raise ValueError("its header is too long")
    header = ast.literal_eval(stream.read(length).decode("latin-1").strip())
    kind, shape = header["descr"], header["shape"]
    if kind[:1] not in {"<", "|"} or kind[1:] not in _DTYPES or not _is_shape(shape):
        raise ValueError(f"its dtype is {kind!r}, its shape {shape!r}")
    return ArrayHeader(_DTYPES[kind[1:]], shape, bool(header["fortran_order"]))


def _parsed(stream: Any) -> torch.Tensor:
    header = array_header(stream)
    refuse_short(header, os.fstat(stream.fileno()).st_size - stream.tell())
    return numbers(header, stream.read(header.nbytes))


def refuse_short(header: ArrayHeader, nbytes: int) -> None:
    """Refuse an array that has more numbers than there are bytes, before room is made for them.

    Raises:
        ValueError: If some are missing.
    """
    if header.nbytes > nbytes:
        raise ValueError("it is cut short")


def numbers(header: ArrayHeader, data: bytes | bytearray) -> torch.Tensor:
    """Return the tensor of a header and its numbers.

    Raises:
        ValueError: If some are missing.
    """
    _, shape, by_columns = header
    if len(data) != header.nbytes:
        raise ValueError("it is cut short")
    flat = torch.empty(0, dtype=header.dtype)
    if data:
        flat = torch.frombuffer(bytearray(data), dtype=header.dtype)
    if by_columns:
        return flat.view(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()
    return flat.view(shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(side) is int and side >= 0 for side in value)

"""Inputs from pictures and arrays."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.core.errors import CheckpointError, InputError, MissingModuleError
from modswap.ops.first_input.from_file import DEVIATIONS, MEANS, read_input


def array(file: Path, header: str, data: bytes, *, version: int = 1) -> str:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    file.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data)
    return str(file)


def header(descr: str, shape: str, fortran: str = "False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("version", [1, 2])
def test_array_is_read_without_numpy(tmp_path: Path, version: int) -> None:
    data = struct.pack("<6f", *range(6))
    name = array(tmp_path / "x.npy", header("<f4", "(2, 3)"), data, version=version)

    tensor, words = read_input(name)

    assert torch.equal(tensor, torch.arange(6.0).view(2, 3))
    assert words == f"the input is {name}, (2, 3)"


def test_array_by_columns_is_put_in_the_order_of_rows(tmp_path: Path) -> None:
    data = struct.pack("<6h", 0, 3, 1, 4, 2, 5)

    tensor, _ = read_input(array(tmp_path / "x.npy", header("<i2", "(2, 3)", "True"), data))

    assert torch.equal(tensor, torch.arange(6, dtype=torch.int16).view(2, 3))


def test_array_of_one_number_or_none_has_its_shape(tmp_path: Path) -> None:
    one, _ = read_input(array(tmp_path / "x.npy", header("|b1", "()"), b"\1"))
    none, _ = read_input(array(tmp_path / "y.npy", header("<f4", "(0, 3)"), b""))

    assert (one.item(), tuple(none.shape)) == (True, (0, 3))


@pytest.mark.parametrize(
    ("text", "data", "words"),
    [
        (header("|O", "(2,)"), b"", "its dtype is"),
        (header(">f4", "(2,)"), bytes(8), "its dtype is"),
        (header("<f4", "(-2,)"), bytes(8), "its shape"),
        (header("<f4", "(2,)"), bytes(7), "it is cut short"),
        (header("<f4", f"({1 << 50},)"), b"", "it is cut short"),
        ("{", b"", "no array of numbers"),
        ("[1]", b"", "no array of numbers"),
        ("{}", b"", "no array of numbers"),
    ],
)
def test_array_of_anything_else_is_refused(
    text: str, data: bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_input(array(tmp_path / "x.npy", text, data))


def test_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("hello")
    with pytest.raises(CheckpointError, match="it begins otherwise"):
        read_input(str(tmp_path / "x.npy"))
    array(tmp_path / "x.npy", " " * (1 << 17), b"", version=2)
    with pytest.raises(CheckpointError, match="its header is too long"):
        read_input(str(tmp_path / "x.npy"))
    with pytest.raises(CheckpointError, match="no such file"):
        read_input(str(tmp_path / "none.npy"))
    with pytest.raises(CheckpointError, match="no such file"):
        read_input(str(tmp_path / "none.png"))


def test_size_of_a_picture_is_height_and_width() -> None:
    with pytest.raises(InputError, match=r"write photo\.jpg:224x224, height and width"):
        read_input("photo.jpg:224")


def picture(file: Path) -> None:
    """Write a picture of 2 x 1 pixels: red above green."""
    image = pytest.importorskip("PIL.Image")
    made = image.new("RGB", (1, 2))
    made.putpixel((0, 0), (255, 0, 0))
    made.putpixel((0, 1), (0, 255, 0))
    made.save(file)


@pytest.mark.parametrize("size", ["", ":2x1"])
def test_picture_is_channels_first_and_normalised(tmp_path: Path, size: str) -> None:
    picture(tmp_path / "x.png")

    tensor, words = read_input(f"{tmp_path}/x.png{size}")

    pixels = torch.tensor([[[[1.0], [0.0]], [[0.0], [1.0]], [[0.0], [0.0]]]])
    means, deviations = (torch.tensor(some).view(1, 3, 1, 1) for some in (MEANS, DEVIATIONS))
    torch.testing.assert_close(tensor, (pixels - means) / deviations)
    assert "x.png as (1, 3, 2, 1), RGB, normalised by ImageNet's" in words


def test_picture_is_resized_to_height_and_width(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")

    assert read_input(f"{tmp_path}/x.png:6x4")[0].shape == (1, 3, 6, 4)


class Failing:
    """A reader of pictures that raises an error."""

    UnidentifiedImageError = KeyError

    def __init__(self, error: Exception) -> None:
        self.error = error

    def open(self, _: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("truncated"), "it is no picture: OSError: truncated"),
        (SyntaxError("broken PNG file"), "it is no picture: SyntaxError: broken PNG"),
        (KeyError("a kind"), "it is no picture: Pillow knows no such kind"),
    ],
)
def test_picture_that_cannot_be_read_says_why(
    error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    module = type(sys)("PIL")
    vars(module)["Image"] = Failing(error)
    monkeypatch.setitem(sys.modules, "PIL", module)

    with pytest.raises((InputError, CheckpointError), match=words):
        read_input(f"{tmp_path}/x.png")


def test_file_of_a_picture_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL.Image")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.png").write_bytes(b"x")
    monkeypatch.setattr("modswap.ops.first_input.from_file.opened_regular", refuse)

    with pytest.raises(CheckpointError, match="it cannot be read: Permission denied"):
        read_input(f"{tmp_path}/x.png")


def test_missing_pillow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MissingModuleError, match=r"modswap\[pictures\]"):
        read_input(f"{tmp_path}/x.png")


def test_what_a_library_puts_in_the_place_of_pillows_reader_reaches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pil = pytest.importorskip("PIL.Image")
    asked = []

    def other(*_: Any) -> Any:  # Ultralytics installs a package for a file that is no picture
        asked.append(1)
        subprocess.run(["touch", tmp_path / "made"], check=True)
        return pil.new("RGB", (2, 2))

    monkeypatch.setattr(pil, "open", other)
    (tmp_path / "a.png").write_text("no picture")

    with pytest.raises(InputError, match="it is no picture: Pillow knows no such kind"):
        read_input(str(tmp_path / "a.png"))

    assert asked
    assert not (tmp_path / "made").exists()

"""The routing of a bi-level routing attention, pictures as input, and drawings over them.

Covers: picture, routing.
"""

import builtins
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import CheckpointError, ExplainError, MissingModuleError, UsageError
from modswap.core.explained.drawing import drawing_of
from modswap.nn import BiLevelRoutingAttention
from modswap.ops.explain import picture
from modswap.ops.explain.passes import Forward
from modswap.ops.explain.picture import page_picture, read_picture, routing_png
from modswap.ops.explain.routing import refuse_unrouted, routed_windows
from tests.core.explained.test_routing import PADDED


def layer(**options: Any) -> BiLevelRoutingAttention:
    torch.manual_seed(0)
    return BiLevelRoutingAttention(8, 2, topk=3, **options).eval()


def test_routes_are_those_that_the_module_returns() -> None:
    module = layer(auto_pad=True)
    x = torch.randn(2, 16, 20, 8)
    before = dict(module.router._forward_hooks)

    found = routed_windows(Forward(module, (x,)), (40, 32))

    with torch.no_grad():
        _, routing = module(x, return_routing=True)
    assert [list(one) for one in found.routes] == routing.indices[0].tolist()
    assert found.weights[0] == pytest.approx(routing.weights[0, 0].tolist())
    # windows of 3 x 3 pixels of the map, 2 x 2 of the picture each
    assert (found.rows, found.columns, found.width, found.height) == (7, 7, 40, 32)
    # rows from 18 on are padding
    expected = [(0, 0, 6, 6), (36, 0, 40, 6), (0, 30, 6, 32), None]
    assert [found.boxes[at] for at in (0, 6, 35, 42)] == expected
    assert OrderedDict(before) == module.router._forward_hooks


def test_later_variant_has_as_many_windows_as_the_map_needs() -> None:
    module = layer(variant="refactored", layout="NCHW", n_win=2)

    found = routed_windows(Forward(module, (torch.randn(1, 8, 5, 7),)), None)

    assert (found.rows, found.columns, found.width, found.height) == (3, 3, 7, 5)
    assert found.boxes[-1] == (6, 4, 7, 5)


def test_picture_of_a_page_is_a_small_jpeg() -> None:
    image = pytest.importorskip("PIL.Image")
    stream = BytesIO()
    noise = torch.randint(256, (1000, 1500, 3), dtype=torch.uint8)
    image.frombytes("RGB", (1500, 1000), bytes(noise.flatten().tolist())).save(stream, "PNG")

    found = page_picture(stream.getvalue())

    assert image.open(BytesIO(found)).size == (640, 427)
    assert found.startswith(b"\xff\xd8")
    assert len(found) < 400_000
    assert page_picture(None) == b""


def test_other_modules_have_no_routing() -> None:
    with pytest.raises(ExplainError, match=r"^it: it has no routing: it is no BiLevelRouting"):
        refuse_unrouted(nn.Linear(1, 1), "it")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    file = tmp_path / "photo.png"
    image.new("RGB", (6, 4), (255, 0, 128)).save(file)
    return file


def test_picture_is_scaled_and_normalised(photo: Path) -> None:
    found = read_picture(photo, (1, 3, 8, 10))
    gray = read_picture(photo, (1, 1, 8, 10))

    assert found.tensor.shape == (1, 3, 8, 10)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(found.tensor[0, :, 3, 4], torch.tensor(expected))
    assert gray.tensor.shape == (1, 1, 8, 10)
    assert found.png.startswith(b"\x89PNG")


def test_photo_is_turned_as_its_camera_notes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    file = tmp_path / "photo.jpg"
    made = image.new("L", (8, 16))
    made.paste(255, (0, 0, 8, 8))  # the upper half is white
    exif = image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    made.save(file, exif=exif, quality=95)

    found = read_picture(file, (1, 1, 8, 16)).tensor[0, 0]

    assert found[4, 13] > found[4, 2]  # now the right half


def test_file_that_is_no_picture_is_refused_in_one_line(tmp_path: Path, photo: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no picture")

    with pytest.raises(CheckpointError, match=r"notes.txt: it is no picture that can be read: P"):
        read_picture(file, (1, 3, 8, 8))
    with pytest.raises(CheckpointError, match=r"none.jpg: no such file; check the name"):
        read_picture(tmp_path / "none.jpg", (1, 3, 8, 8))
    with pytest.raises(UsageError, match=r"--image: the model takes \(1, 8\), no picture"):
        read_picture(photo, (1, 8))
    photo.write_bytes(photo.read_bytes()[:30])
    with pytest.raises(CheckpointError, match="it is no picture that can be read"):
        read_picture(photo, (1, 3, 8, 8))


def test_missing_pillow_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(MissingModuleError, match=r"^--image: pictures need pillow, which is miss"):
        read_picture(Path("photo.jpg"), (1, 3, 8, 8))


@pytest.mark.parametrize("over", [True, False])
def test_drawing_is_a_png_of_twice_its_size(photo: Path, over: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    drawing = drawing_of(PADDED, (0, 2), "en")
    png = read_picture(photo, (1, 3, 20, 20)).png if over else None

    found = image.open(BytesIO(routing_png(drawing, png)))

    assert found.size == (2 * drawing.width, 2 * drawing.height)
    left, top, *_ = (round(2 * side) for side in drawing.pictures[0])
    red = picture._rgb("#d1242f")
    assert found.convert("RGB").getpixel((left + 2, top + 100)) == red  # the outline of the source

"""Folders of pictures.

Covers: decoding, pixels.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import CheckpointError, InputError, MissingModuleError, UsageError
from modswap.ops.heal.data import pixels
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest
from tests.ops.heal.data.takers import convolution, taker_of, write_pictures

UNIT = DataRequest(mean=(0.0,), std=(1 / 255,))  # so that the inputs are bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40 pictures in two subfolders, and files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    write_pictures(folder, 40)
    (folder / "notes.txt").write_text("none")
    (folder / ".hidden.png").write_text("none")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_text("none")
    return folder


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return convolution()


def reds(given: Path, request: DataRequest = UNIT) -> list[int]:
    samples = open_samples(given, taker_of(convolution()), request)
    return [int(one) for one in samples.batch(range(samples.count)).args[0][:, 0, 8, 8].round()]


def test_folder_gives_its_pictures_in_an_order_of_the_seeds(folder: Path, net: nn.Module) -> None:
    steps: list[str] = []

    samples = open_samples(str(folder), taker_of(net), UNIT, steps.append)
    batch = samples.batch([3, 0, 3])

    assert samples.count == 40
    assert samples.description == f"40 pictures of {folder}, 16x16"
    (note,) = samples.notes
    assert note.startswith("the pictures are resized, the middle cropped, normalised by mean 0 and")
    assert batch.args[0].shape == (3, 3, 16, 16)
    assert torch.equal(batch.args[0][0], batch.args[0][2])
    assert batch.args[0][0, :, 5, 5].round().tolist()[1:] == [100, 200]
    assert steps[-1] == "reading pictures: 39 of 40"
    order = reds(folder)
    assert sorted(order) == list(range(40))
    assert order != sorted(order)
    assert order == reds(folder)
    assert order != reds(folder, DataRequest(seed=1, mean=(0.0,), std=(1 / 255,)))


def test_of_more_files_some_are_chosen_evenly(folder: Path) -> None:
    taken = reds(folder, DataRequest(most=32, mean=(0.0,), std=(1 / 255,)))
    samples = open_samples(folder, taker_of(convolution()), DataRequest(most=32))

    assert taken == reds(folder)[:32]
    assert samples.description == f"32 of 40 pictures of {folder}, 16x16"


def test_picture_is_read_again_where_there_is_no_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch, net: nn.Module
) -> None:
    kept = open_samples(folder, taker_of(net), UNIT)
    monkeypatch.setattr(pixels, "CACHE_BYTES", 5 * 3 * 16 * 16)
    read = open_samples(folder, taker_of(net), UNIT)

    assert len(vars_of(kept, "kept")) == 40
    assert len(vars_of(read, "kept")) == 5
    assert torch.equal(kept.batch(range(40)).args[0], read.batch(range(40)).args[0])


def vars_of(samples: Any, name: str) -> Any:
    return getattr(samples, name)


def test_picture_that_is_gone_meanwhile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: nn.Module
) -> None:
    write_pictures(tmp_path, 32)
    monkeypatch.setattr(pixels, "CACHE_BYTES", 2 * 3 * 16 * 16)
    samples = open_samples(tmp_path, taker_of(net), UNIT)
    for file in tmp_path.rglob("*.png"):
        file.write_text("no picture")

    with pytest.raises(InputError, match="was a picture when the healing began, and is none now"):
        samples.batch([31])


def test_broken_picture_is_left_out_and_named(tmp_path: Path, net: nn.Module) -> None:
    write_pictures(tmp_path, 33)
    whole = (tmp_path / "class0" / "000.png").read_bytes()
    (tmp_path / "class0" / "000.png").write_bytes(whole[:50])
    (tmp_path / "text.jpg").write_text("no picture")

    samples = open_samples(tmp_path, taker_of(net))

    assert samples.count == 32
    assert samples.notes[1].startswith("2 files are broken and left out: ")
    assert "text.jpg (Pillow knows no such kind)" in samples.notes[1]
    assert "class0/000.png (" in samples.notes[1]


def test_pipes_devices_and_endless_files_are_left_out(tmp_path: Path, net: nn.Module) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.jpg").symlink_to("/dev/zero")
    with (tmp_path / "large.png").open("wb") as stream:
        stream.truncate(1 << 40)
    write_pictures(tmp_path, 32)

    samples = open_samples(tmp_path, taker_of(net))

    assert samples.count == 32
    notes = " ".join(samples.notes)
    assert "pipe.png (it is a pipe, expected a regular file)" in notes
    assert "zeros.jpg (it is a device, expected a regular file)" in notes
    assert "large.png (it has 1,099,511,627,776 bytes, expected at most" in notes


def test_unreadable_picture_is_left_out(tmp_path: Path, net: nn.Module) -> None:
    write_pictures(tmp_path, 32)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")

    samples = open_samples(tmp_path, taker_of(net))

    expected = "1 file is broken and left out: gone.png (No such file or directory)"
    assert samples.notes[1] == expected


def test_too_few_pictures_are_refused(tmp_path: Path, net: nn.Module) -> None:
    with pytest.raises(InputError, match=r"it holds no pictures \(\.jpg, .*draw pictures: `none`"):
        open_samples(tmp_path, taker_of(net))
    write_pictures(tmp_path, 1)
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_text("no picture")

    expected = (
        r"it gives 1 sample, expected 32 or more \(5 files are broken .* and 2 more\); give more"
    )
    with pytest.raises(InputError, match=expected):
        open_samples(tmp_path, taker_of(net))


def test_folder_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: nn.Module
) -> None:
    scan = os.scandir

    def refuse(name: Any) -> Any:
        if str(name).endswith("class1"):
            raise PermissionError(13, "Permission denied", str(name))
        return scan(name)

    write_pictures(tmp_path, 2)
    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(CheckpointError, match="class1: it cannot be read: Permission denied"):
        open_samples(tmp_path, taker_of(net))


def test_folder_that_links_to_itself_is_read_once(tmp_path: Path, net: nn.Module) -> None:
    write_pictures(tmp_path, 32)
    (tmp_path / "class0" / "again").symlink_to(tmp_path)

    assert open_samples(tmp_path, taker_of(net)).count == 32


def test_model_that_takes_no_pictures_refuses_a_folder(folder: Path) -> None:
    with pytest.raises(InputError, match=r"pictures are given, but the model takes \(1, 8\)"):
        open_samples(folder, taker_of(nn.Linear(8, 2), 1, 8))
    with pytest.raises(InputError, match="the model takes 5 channels, pictures have 1 or 3"):
        open_samples(folder, taker_of(convolution(5), 1, 5, 16, 16))


def test_missing_pillow_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, net: nn.Module
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)

    with pytest.raises(MissingModuleError, match=r"modswap\[pictures\]"):
        open_samples(folder, taker_of(net))


def test_fewer_than_thirty_two_cannot_be_asked_for(folder: Path, net: nn.Module) -> None:
    with pytest.raises(UsageError, match="at most 31 samples are asked for, expected 32 or more"):
        open_samples(folder, taker_of(net), DataRequest(most=31))


def gradient(image: Any, mode: str) -> Any:
    """Return a picture of 8 x 4 pixels whose columns are brighter to the right."""
    made = image.new(mode, (8, 4))
    top = 65535 if mode.startswith("I") else 255
    for x in range(8):
        for y in range(4):
            value = round(top * x / 7)
            made.putpixel((x, y), (value,) * 3 if mode == "RGB" else value)
    return made


COLUMNS = [round(255 * x / 7) for x in range(8)]


def of_one(
    tmp_path: Path, made: Callable[[Any], Any], name: str, *shape: int, **payload: Any
) -> torch.Tensor:
    """Return the bytes (C, H, W) that a model is given for a picture."""
    image = pytest.importorskip("PIL.Image")
    write_pictures(tmp_path, 31)
    made(image).save(tmp_path / name)
    taker = taker_of(convolution(shape[1]), *shape, payload=payload)
    request = DataRequest() if "mean" in payload else UNIT
    samples: Any = open_samples(tmp_path, taker, request)
    names = [file.name for file in samples.pixels.__self__.files]
    found: torch.Tensor = samples.batch([names.index(name)]).args[0][0]
    return found


def test_grey_and_deep_pictures_are_given_in_the_models_channels(tmp_path: Path) -> None:
    for number, mode in enumerate(("RGB", "L", "I;16", "I")):
        inner = tmp_path / str(number)
        grey = of_one(inner, lambda image: gradient(image, mode), "x.tif", 1, 1, 4, 8)  # noqa: B023 - called here
        colour = of_one(inner, lambda image: gradient(image, mode), "x.tif", 1, 3, 4, 8)  # noqa: B023 - called here

        assert (grey[0, 2] - torch.tensor(COLUMNS)).abs().max() < 1.01, mode
        assert (colour[:, 1] - torch.tensor(COLUMNS)).abs().max() < 1.01, mode


def test_transparent_palette_is_no_broken_picture(tmp_path: Path) -> None:
    def made(image: Any) -> Any:
        palette = gradient(image, "L").convert("P")
        palette.info["transparency"] = bytes(range(256))
        return palette

    assert of_one(tmp_path, made, "x.png", 1, 3, 4, 8)[0, 0].tolist() == pytest.approx(COLUMNS)


def test_crop_keeps_its_share_of_the_middle(tmp_path: Path) -> None:
    cut = {"mean": [0, 0, 0], "std": [1 / 255] * 3, "crop_pct": 0.5, "interpolation": "nearest"}

    whole = of_one(tmp_path, lambda image: gradient(image, "RGB"), "x.png", 1, 3, 4, 4)
    half = of_one(tmp_path, lambda image: gradient(image, "RGB"), "x.png", 1, 3, 4, 4, **cut)

    assert whole[0, 0].tolist() == pytest.approx(COLUMNS[2:6], abs=1)
    assert half[0, 0].tolist() == pytest.approx([COLUMNS[n] for n in (3, 3, 4, 4)], abs=1)


def test_stretched_picture_keeps_its_edges(tmp_path: Path) -> None:
    said = {"mean": [0, 0, 0], "std": [1 / 255] * 3, "crop_pct": 1.0, "crop_mode": "squash"}

    found = of_one(tmp_path, lambda image: gradient(image, "RGB"), "x.png", 1, 3, 8, 8, **said)

    assert found[0, 4].tolist() == pytest.approx(COLUMNS, abs=1)


def test_letterbox_puts_the_whole_picture_on_grey(tmp_path: Path) -> None:
    made = type("DetectionModel", (nn.Sequential,), {"__module__": "ultralytics.nn.tasks"})
    image = pytest.importorskip("PIL.Image")
    write_pictures(tmp_path, 31)
    gradient(image, "RGB").save(tmp_path / "x.png")

    for channels in (1, 3):
        taker = taker_of(made(convolution(channels)), 1, channels, 8, 8)
        samples: Any = open_samples(tmp_path, taker)
        names = [file.name for file in samples.pixels.__self__.files]
        found = 255 * samples.batch([names.index("x.png")]).args[0][0]

        assert found[0, :, 0].round().tolist() == [114, 114, 0, 0, 0, 0, 114, 114]
        assert found[-1, 3].tolist() == pytest.approx(COLUMNS, abs=1)
        assert "resized on grey, in 0 to 1, as its library" in samples.notes[0]

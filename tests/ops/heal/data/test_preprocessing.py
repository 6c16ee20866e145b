"""Size, mean and deviation of pictures, from files, models and callers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError, UsageError
from modswap.ops.heal.data.preprocessing import Preprocessing, preprocessing
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.run.inputs import DummyCall
from tests.ops.heal.data.takers import convolution, taker_of

NET = convolution()
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def found(payload: dict[str, Any] | None = None, **request: Any) -> Preprocessing:
    return preprocessing(taker_of(NET, payload=payload), DataRequest(**request), "photos")


def of_folder(folder: Path, **said: Any) -> Preprocessing:
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return preprocessing(taker_of(NET, folder=folder), DataRequest(), "photos")


def test_settings_of_timm_in_the_file_are_taken() -> None:
    said = {"input_size": (3, 24, 28), "crop_pct": 0.875, "interpolation": "bicubic", **IMAGENET}

    how = found({"state_dict": {}, "pretrained_cfg": said})

    assert (how.size, how.fit, how.share, how.resample) == ((24, 28), "crop", 0.875, "bicubic")
    assert how.numbers == (
        "normalised by mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225, "
        "as pretrained_cfg in the file says"
    )
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    expected = [(1 - m) / s for m, s in zip(IMAGENET["mean"], IMAGENET["std"], strict=True)]
    torch.testing.assert_close(how.normalised(pixels).flatten(), torch.tensor(expected))


def test_settings_that_a_model_holds_are_taken() -> None:
    model = convolution()
    model.pretrained_cfg = {**IMAGENET, "input_size": (3, 16, 16)}  # type: ignore[assignment] # as timm does

    how = preprocessing(taker_of(model), DataRequest(), "photos")

    assert how.why == "as pretrained_cfg in the model says"
    assert how.mean == IMAGENET["mean"]


def test_size_that_the_model_refuses_is_that_of_its_call() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))

    taker = taker_of(model, payload={"input_size": (3, 24, 24), **IMAGENET})

    assert preprocessing(taker, DataRequest(), "photos").size == (16, 16)
    told = DataRequest(size=(8, 4))
    assert preprocessing(taker, told, "photos").size == (8, 4)


def test_numbers_of_bytes_are_those_of_pixels_in_0_to_1() -> None:
    how = found({"data_preprocessor": {"mean": [127.5] * 3, "std": [127.5] * 3}})

    assert how.mean == how.std == (0.5, 0.5, 0.5)
    assert found({"mean": [127.5], "std": [127.5]}).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (  # ViT
            {"do_resize": True, "size": {"height": 24, "width": 24}, "resample": 2},
            ((24, 24), "stretch", 1.0, "bilinear", 0.5),
        ),
        (  # CLIP
            {
                "do_resize": True, "size": {"shortest_edge": 32}, "do_center_crop": True,
                "crop_size": {"height": 24, "width": 24}, "resample": 3,
            },
            ((24, 24), "crop", 0.75, "bicubic", 0.5),
        ),
        (  # ConvNeXt
            {"do_resize": True, "size": {"shortest_edge": 24}, "crop_pct": 0.875, "resample": 3},
            ((24, 24), "crop", 0.875, "bicubic", 0.5),
        ),
        (  # older files
            {"do_resize": True, "size": 24, "do_center_crop": True, "crop_size": 24},
            ((24, 24), "crop", 1.0, "bilinear", 0.5),
        ),
        (
            {"do_resize": True, "size": {"shortest_edge": 24}},
            ((24, 24), "crop", 1.0, "bilinear", 0.5),
        ),
        ({"size": "large"}, ((16, 16), "crop", 1.0, "bilinear", 0.5)),
        ({"do_center_crop": True}, ((16, 16), "crop", 1.0, "bilinear", 0.5)),
        ({"do_rescale": False}, ((16, 16), "crop", 1.0, "bilinear", 0.5 / 255)),
        ({"rescale_factor": 1 / 127.5}, ((16, 16), "crop", 1.0, "bilinear", 0.25)),
        ({"do_normalize": False}, ((16, 16), "crop", 1.0, "bilinear", 0.0)),
    ],
)  # fmt: skip
def test_preprocessor_of_a_folder_is_taken(
    said: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    how = of_folder(tmp_path, **{"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **said})

    assert (how.size, how.fit, how.share, how.resample) == expected[:4]
    assert how.mean == pytest.approx((expected[4],) * 3)
    assert how.why == "as preprocessor_config.json says"


@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        {"mean": 0.0, "std": 0.02},  # of an initialisation
        {"mean": [0.0, 0.0], "std": [1.0, 1.0]},
        {"mean": [0.0] * 3, "std": [0.0] * 3},
        {"mean": [float("nan")] * 3, "std": [1.0] * 3},
        {"mean": ["0"] * 3, "std": [1.0] * 3},
        {"mean": [], "std": []},
    ],
)
def test_settings_without_a_mean_for_each_channel_say_nothing(said: Any, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))

    how = preprocessing(taker_of(NET, payload={"x": said}, folder=tmp_path), DataRequest(), "")

    assert not how.known
    assert how.numbers == "in 0 to 1, since neither the file nor the call says otherwise"


def test_damaged_preprocessor_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{")

    assert not preprocessing(taker_of(NET, folder=tmp_path), DataRequest(), "").known


def test_numbers_of_the_caller_come_first() -> None:
    how = found({"pretrained_cfg": IMAGENET}, mean=(0.5,), std=(0.25, 0.5, 1.0))

    assert how.numbers == "normalised by mean 0.5 and deviation 0.25, 0.5, 1, as given"
    assert found(std=(2.0,)).mean == (0.0, 0.0, 0.0)
    assert found(mean=(0.0,)).numbers == "in 0 to 1, as given"


@pytest.mark.parametrize(
    "request_", [{"mean": (0.5, 0.5)}, {"std": (0.0,)}, {"mean": (float("inf"),)}]
)
def test_numbers_of_the_caller_that_fit_no_channel_are_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"do not fit 3 channels; give one number or 3"):
        found(**request_)


def test_model_of_a_library_has_the_librarys_own() -> None:
    detector = type("DetectionModel", (nn.Sequential,), {"__module__": "ultralytics.nn.tasks"})
    classifier = type("ClassificationModel", (nn.Sequential,), {"__module__": "ultralytics.nn"})

    for cls, fit in ((detector, "letterbox"), (classifier, "crop")):
        how = preprocessing(Taker(cls(NET), taker_of(NET).call), DataRequest(), "")
        assert (how.fit, how.std, how.known) == (fit, (1.0, 1.0, 1.0), True)


def test_model_of_two_pictures_takes_no_folder() -> None:
    picture = TensorInput(shape=(1, 3, 16, 16))

    with pytest.raises(InputError, match=r"\(1, 3, 16, 16\), \(1, 3, 16, 16\); give arrays"):
        preprocessing(Taker(NET, DummyCall((picture, picture), {})), DataRequest(), "photos")

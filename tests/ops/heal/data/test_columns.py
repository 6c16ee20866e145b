"""Tensors of all samples under the arguments of a model.

Covers: open, taker.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError
from modswap.io.formats.container import Container
from modswap.ops.heal.data.columns import SampleColumns, by_name
from modswap.ops.heal.data.taker import Argument, DataRequest, Taker, told_size
from modswap.ops.heal.samples import Samples
from modswap.ops.load.model import Loaded
from modswap.ops.run.inputs import DummyCall
from tests.ops.heal.data.takers import convolution, taker_of

GREY = taker_of(convolution(1), 1, 1, 8, 8)
COLOUR = taker_of(convolution(3), 1, 3, 8, 8)


def samples_of(tensor: torch.Tensor, taker: Taker, **request: Any) -> Samples:
    return SampleColumns({0: tensor}).samples(taker, DataRequest(**request), "x.npy", "samples")


def first(tensor: torch.Tensor, taker: Taker, **request: Any) -> torch.Tensor:
    found: torch.Tensor = samples_of(tensor, taker, **request).batch([0]).args[0]
    return found


def test_numbers_take_the_order_and_dtype_of_the_call() -> None:
    maps = torch.rand(32, 8, 8, dtype=torch.float64)

    assert torch.equal(first(maps, GREY)[0, 0], maps[0].float())
    last = torch.rand(32, 8, 8, 3)
    assert torch.equal(first(last, COLOUR)[0], last[0].permute(2, 0, 1))
    whole = torch.arange(32 * 192).view(32, 3, 8, 8)
    assert first(whole, COLOUR).dtype is torch.float32
    tokens = taker_of(nn.Embedding(40, 4), 1, 6)
    tokens = Taker(tokens.model, DummyCall((TensorInput(shape=(1, 6), dtype="int64"),), {}))
    assert first(torch.ones(32, 6, dtype=torch.int32), tokens).dtype is torch.int64
    with pytest.raises(InputError, match="are float32, the model takes int64; save them as int64"):
        first(torch.ones(32, 6), tokens)


@pytest.mark.parametrize(
    ("tensor", "taker", "words"),
    [
        (torch.zeros(32, 5, 8, 8), COLOUR, r"shape is \(32, 5, 8, 8\), the model takes 3 channels"),
        (torch.zeros(32, 8, 8), COLOUR, r"\(32, 8, 8\), the model takes \(N, 3, 8, 8\); give one"),
        (torch.zeros(32, 3, 8, 8) / 0, COLOUR, "its sample 0 holds NaN or infinity"),
        (torch.zeros(32, 3, 8, 8, dtype=torch.complex64), COLOUR, "its numbers are complex64"),
        (
            torch.zeros(32, 4, 8, 8, dtype=torch.uint8),
            COLOUR,
            r"shape is \(32, 4, 8, 8\), the model takes 3 channels; give \(N, 3, H, W\)",
        ),
    ],
)
def test_numbers_that_fit_no_argument_are_refused(
    tensor: torch.Tensor, taker: Taker, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        samples_of(tensor, taker)


def test_bytes_change_between_grey_and_colour() -> None:
    grey = torch.randint(0, 256, (32, 8, 8), dtype=torch.uint8)
    colour = torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8)
    byte = {"mean": (0.0,), "std": (1 / 255,)}

    assert (first(grey, GREY, **byte)[0, 0] - grey[0]).abs().max() < 1e-3
    assert (first(grey, COLOUR, **byte)[0, 2] - grey[0]).abs().max() < 1e-3
    luminance = (colour[0].float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
    assert (first(colour, GREY, **byte)[0, 0] - luminance).abs().max() <= 0.51


def test_bytes_are_resized_to_the_size_of_the_input() -> None:
    ramp = torch.arange(0, 240, 10, dtype=torch.uint8).expand(32, 16, 24)

    found = first(ramp, GREY, mean=(0.0,), std=(1 / 255,))

    assert found.shape == (1, 1, 8, 8)
    assert found[0, 0, 3].tolist() == pytest.approx([45.0 + 20 * n for n in range(8)], abs=6)


class Conditioned(nn.Module):
    """A net for pictures with a step, a mask and a switch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(
        self, x: torch.Tensor, step: torch.Tensor, flag: bool, y: torch.Tensor, mask: Any = None
    ) -> torch.Tensor:
        out: torch.Tensor = self.conv(x) * step.view(-1, 1, 1, 1) + y.sum()
        return out if flag and mask is None else out * mask.view(-1, 1, 1, 1)


def conditioned() -> Taker:
    picture, step = TensorInput(shape=(1, 3, 8, 8)), TensorInput(shape=(1,), fill="ones")
    other = TensorInput(shape=(5,))
    return Taker(Conditioned(), DummyCall((picture, step, True), {"y": other}))


def test_arguments_without_data_have_a_dummy_value() -> None:
    pixels = torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8)

    alone = by_name({"x": pixels}, conditioned(), "x.npz")
    batch = alone.samples(conditioned(), DataRequest(), "x.npz", "samples").batch([1, 2])

    assert [one.shape for one in batch.args[:2]] == [(2, 3, 8, 8), (2,)]
    assert batch.args[2] is True
    assert batch.kwargs["y"].shape == (5,)
    again = alone.samples(conditioned(), DataRequest(), "x.npz", "samples").batch([2])
    assert torch.equal(again.kwargs["y"], batch.kwargs["y"])


def test_names_of_arguments_are_no_labels() -> None:
    given = {
        "x": torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8),
        "y": torch.ones(32),
        "mask": torch.zeros(32),
        "label": torch.arange(32),
    }

    found = by_name(given, conditioned(), "x.npz")
    samples = found.samples(conditioned(), DataRequest(), "x.npz", "samples")
    batch = samples.batch([3])

    assert list(found.given) == [0, "y", "mask"]
    assert found.labels is not None
    assert batch.labels.tolist() == [3]
    assert batch.kwargs["mask"].shape == (1,)
    assert samples.notes[0].startswith("bytes are taken as pictures, in 0 to 1, since")
    assert 0 <= float(batch.args[0].min()) <= float(batch.args[0].max()) <= 1


def test_call_without_tensors_takes_nothing() -> None:
    taker = Taker(convolution(), DummyCall(([TensorInput(shape=(3, 8, 8))],), {}))

    with pytest.raises(InputError, match=r"the model takes \[\(3, 8, 8\)\], no tensors as arg"):
        by_name({"x": torch.zeros(32, 3, 8, 8)}, taker, "x.npz")


def test_size_of_pictures_is_that_of_an_input_that_was_given() -> None:
    words, picture = TensorInput(shape=(1, 8)), TensorInput(shape=(2, 3, 24, 32))

    assert told_size((words, picture)) == (24, 32)
    assert told_size((words,)) is None
    assert told_size(()) is None


def test_taker_knows_its_folder_and_tokens(tmp_path: Path) -> None:
    assert str(COLOUR.folder) == "."
    loaded = Loaded(COLOUR.model, Container("torch", tmp_path, {}, ()))
    assert Taker.of(loaded, COLOUR.call).folder == tmp_path
    assert Taker(COLOUR.model, COLOUR.call).folder is None
    assert conditioned().tokens is None
    words = Argument("ids", TensorInput(shape=(1, 8), dtype="int64"))
    assert (words.is_tokens, words.is_float, words.is_picture) == (True, False, False)

"""Samples that are drawn."""

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.run.inputs import DummyCall
from tests.ops.heal.data.takers import Texts, convolution, taker_of, trained

FEW = DataRequest(most=40)


def test_pictures_are_scaled_by_the_numbers_of_the_file() -> None:
    said = {"mean": [0.5] * 3, "std": [0.25] * 3}

    samples = open_samples("none", taker_of(convolution(), payload=said), FEW)
    x = samples.batch(range(40)).args[0]

    assert samples.count == 40
    assert samples.description == "40 drawn pictures, 16x16"
    assert samples.notes == (
        "no data were given: pictures of shapes that hide one another are drawn (dead leaves)",
        "the drawn pictures are normalised by mean 0.5 and deviation 0.25, as the file says",
    )
    assert (x >= -2).all()
    assert (x <= 2).all()
    assert torch.equal(
        x[[3]], open_samples("none", taker_of(convolution(), payload=said)).batch([3]).args[0]
    )


def test_scale_and_blur_are_those_that_the_first_norm_was_trained_on() -> None:
    steps: list[str] = []

    samples = open_samples("none", taker_of(trained(0.3, 0.4), 1, 1, 16, 16), FEW, steps.append)

    assert steps == ["looking for the scale of the model's inputs"]
    assert "which fit the statistics of its first batch norm, '1', best" in samples.notes[1]
    assert "blurred" not in samples.notes[1]
    x = samples.batch(range(40)).args[0]
    assert float(x.std()) == pytest.approx(0.3, rel=0.25)
    assert float(x.mean()) == pytest.approx(0.4, abs=0.15)


def test_model_of_smooth_inputs_gets_blurred_pictures() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, momentum=None)).train()
    smooth = nn.functional.interpolate(torch.randn(256, 1, 3, 3), (16, 16), mode="bilinear")
    with torch.no_grad():
        net(smooth * 0.5 + 0.5)

    samples = open_samples("none", taker_of(net.eval(), 1, 1, 16, 16), FEW)

    assert "the drawn pictures are blurred 4 times and scaled to mean" in samples.notes[1]


def test_model_without_a_norm_gets_normal_pictures() -> None:
    samples = open_samples("none", taker_of(nn.Conv2d(3, 2, 3)), FEW)

    x = samples.batch(range(40)).args[0]

    assert float(x.mean()) == pytest.approx(0, abs=0.05)
    assert float(x.std()) == pytest.approx(1, abs=0.05)
    assert samples.notes[1].endswith(
        "scaled to mean 0 and deviation 1, since the model has no batch norm that says its range"
    )


def texts(model: nn.Module, *more: str, length: int = 16) -> Taker:
    ids = TensorInput(shape=(1, length), dtype="int64")
    return Taker(model, DummyCall((ids,), dict.fromkeys(more, ids)))


def test_tokens_are_drawn_from_the_vocabulary_as_long_as_the_positions_allow() -> None:
    samples = open_samples("none", texts(Texts(pad_token_id=3)), DataRequest())

    ids = samples.batch(range(512)).args[0]

    assert samples.description == "512 drawn texts of 40 tokens"
    assert samples.notes == ("no data were given: tokens are drawn evenly from the 30 of 'words'",)
    assert set(ids.flatten().tolist()) == set(range(30)) - {3}
    counted = open_samples("none", texts(Texts(200, max_position_embeddings=50)), FEW)
    assert counted.batch([0]).args[0].shape == (1, 50)
    offset = Texts(200, max_position_embeddings=50, model_type="roberta")
    assert open_samples("none", texts(offset), FEW).batch([0]).args[0].shape == (1, 48)
    assert open_samples("none", texts(Texts(200)), FEW).batch([0]).args[0].shape == (1, 64)


def test_masks_of_drawn_tokens_are_ones_and_types_are_the_calls() -> None:
    taker = texts(Texts(), "attention_mask", "token_type_ids")

    batch = open_samples("none", taker, FEW).batch([1, 2])

    assert batch.args[0].shape == (2, 40)
    assert batch.kwargs["attention_mask"].eq(1).all()
    assert batch.kwargs["token_type_ids"].shape == (2, 16)


def test_model_that_refuses_a_length_gets_that_of_its_call() -> None:
    model = nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(32, 2))

    assert open_samples("none", texts(model), FEW).batch([0]).args[0].shape == (1, 16)


def test_inputs_of_other_kinds_are_normal_numbers() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=None)).train()
    with torch.no_grad():
        net(torch.randn(256, 4) * 3 + 1)

    samples = open_samples("none", taker_of(net.eval(), 1, 4), DataRequest(most=400))
    x = samples.batch(range(400)).args[0]

    assert samples.description == "400 drawn samples of normal numbers, (4)"
    assert (
        samples.notes[0] == "no data were given: normal numbers are drawn, which few data are like"
    )
    assert "the numbers are scaled to mean" in samples.notes[1]
    assert float(x.std()) == pytest.approx(3, rel=0.25)
    assert torch.equal(x[[7, 7]], samples.batch([7, 7]).args[0])


def test_nothing_is_drawn_for_tokens_without_a_table() -> None:
    class Sums(nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return ids.float()

    with pytest.raises(InputError, match="none: no embedding of the model gets its input 0; give"):
        open_samples("none", texts(Sums()), FEW)
    flags = Taker(Sums(), DummyCall((TensorInput(shape=(1, 2, 2), dtype="int64"),), {}))
    with pytest.raises(InputError, match="none: nothing can be drawn for a model that takes"):
        open_samples("none", flags, FEW)

"""The metric of an agreement, by the outputs of the original or by name.

Covers: outputs.
"""

from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import ShapeError, UsageError
from modswap.core.healed.agreement import Agreement
from modswap.ops.heal.measures.metric import METRICS, metric_for
from modswap.ops.heal.measures.outputs import compared, detections, principal, required
from modswap.ops.heal.samples import Batch

NO_BATCH = Batch(())


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def detector(classes: int = 2) -> tuple[torch.Tensor, dict[str, Any]]:
    decoded = drawn(3, 4 + classes, 20).sigmoid()
    raw = {"boxes": drawn(3, 64, 20), "scores": drawn(3, classes, 20), "feats": [drawn(3, 8, 4, 5)]}
    return decoded, raw


class Headless(nn.Identity):
    num_classes = 0


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        (drawn(4, 10), "top-1"),
        (drawn(4, 10).softmax(1), "top-1"),
        ({"logits": drawn(4, 10), "last_hidden_state": drawn(4, 5, 6)}, "top-1"),
        ({"logits": drawn(4, 6, 9)}, "top-1"),
        ({"out": drawn(4, 3, 8, 8), "aux": drawn(4, 3, 8, 8)}, "dice"),
        ((torch.arange(4), drawn(4, 1, 8, 8)), "dice"),
        (drawn(4, 2, 4, 4, 4), "dice"),
        (drawn(4, 3, 8, 8).square() * torch.tensor([1.0, 0, 0]).view(3, 1, 1), "error"),
        (drawn(4, 1, 8, 8).exp(), "error"),
        (drawn(4, 64, 3, 3), "error"),
        (detector(), "boxes"),
        ({"last_hidden_state": drawn(4, 5, 6), "pooler_output": drawn(4, 6)}, "cosine"),
        ({"image_embeds": drawn(4, 6)}, "cosine"),
        (nn.functional.normalize(drawn(4, 6), dim=1), "cosine"),
        (drawn(4, 1), "error"),
        (drawn(4, 6, 9), "error"),
        (drawn(4), "error"),
        (torch.arange(4), "error"),
    ],
)
def test_the_head_is_recognised_by_its_outputs(outputs: Any, name: str) -> None:
    metric = metric_for(outputs)

    assert metric.name == name
    assert metric.title == METRICS[name].title
    assert metric.reason


def test_a_model_without_classes_gives_embeddings() -> None:
    assert metric_for(drawn(4, 10), model=Headless()).name == "cosine"
    assert metric_for(drawn(4, 10), model=nn.Identity()).name == "top-1"


def test_one_class_for_all_samples_is_said() -> None:
    (note,) = metric_for(torch.eye(5)[[1, 1, 1]] * 3).notes

    assert note.startswith("the original gives one class for all samples")
    assert metric_for(torch.eye(5)[[1, 2, 1]] * 3).notes == ()


@pytest.mark.parametrize("name", ["top-1", "dice", "iou", "cosine", "error"])
def test_a_metric_may_be_named(name: str) -> None:
    assert metric_for(drawn(4, 3, 8, 8), name.upper()).name == name


@pytest.mark.parametrize(
    ("asked", "outputs", "message"),
    [
        ("cosin", drawn(4, 3), "--metric: there is no metric 'cosin'; did you mean 'cosine'?"),
        ("x", drawn(4, 3), "use one of top-1, dice, iou, boxes, cosine, error"),
        (
            "dice",
            drawn(4, 3),
            r"needs maps of classes \(N, K, H, W\), the original gives \(4, 3\); use one of top",
        ),
        ("boxes", drawn(4, 7, 9), "boxes needs the outputs of an Ultralytics detector"),
        ("top-1", torch.arange(3), "the original gives no floating tensor"),
    ],
)
def test_a_wrong_metric_is_refused(asked: str, outputs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metric_for(outputs, asked)


def test_outputs_are_compared_with_their_channels_at_axis_one() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    batch = Batch((), {"attention_mask": mask})
    outputs = {"a": drawn(2, 3, 5), "b": drawn(2), "c": torch.tensor(1.0), "d": torch.arange(2)}

    found = compared(outputs, batch)

    assert {place: tuple(each.shape) for place, each in found.items()} == {"a": (3, 5), "b": (2, 1)}
    assert tuple(compared(outputs["a"], NO_BATCH)[""].shape) == (6, 5)


def test_of_a_detector_the_raw_head_is_compared() -> None:
    assert set(compared(detector(), NO_BATCH)) == {"boxes", "scores"}
    both = (detector()[0], {"one2many": detector()[1], "one2one": detector()[1]})
    assert set(compared(both, NO_BATCH)) == {
        f"{head}.{part}" for head in ("one2many", "one2one") for part in ("boxes", "scores")
    }


def test_maps_of_earlier_detectors_are_a_raw_head() -> None:
    maps = [drawn(2, 64 + 3, 4, 4), drawn(2, 64 + 3, 2, 2)]
    decoded = drawn(2, 4 + 3 + 2, 20)  # two mask coefficients

    found = detections(((decoded, drawn(2, 8, 8, 8)), (maps, drawn(2, 2, 20))))

    assert found is not None
    assert found.classes == 3
    assert list(found.raw) == ["map 0", "map 1"]
    few = detections((drawn(2, 4 + 5, 20), [drawn(2, 9, 4, 4), drawn(2, 9, 2, 2)]))
    assert few is not None
    assert few.classes == 5


@pytest.mark.parametrize(
    "outputs",
    [
        drawn(2, 7, 20),
        (drawn(2, 7), {"boxes": drawn(2, 64, 20), "scores": drawn(2, 3, 20)}),
        (drawn(2, 7, 20), {"boxes": drawn(2, 64, 20)}),
        (drawn(2, 7, 20), {"scores": drawn(2, 64, 20)}),
        (drawn(2, 7, 20), [drawn(2, 67, 4, 4)]),
        (drawn(2, 7, 20), [drawn(2, 67, 20)]),
        (drawn(2, 7, 20), drawn(2, 3)),
    ],
)
def test_other_outputs_are_no_detector(outputs: Any) -> None:
    assert detections(outputs) is None


def test_the_principal_tensor_is_floating() -> None:
    assert principal({"ids": torch.arange(3), "values": drawn(3, 2)}) is not None
    assert principal({"logits": torch.arange(3)}) is None
    assert principal({"x": drawn(3), "logits": drawn(2)}).shape == (2,)  # type: ignore[union-attr] # there is one
    with pytest.raises(ShapeError, match="no floating tensor"):
        required(torch.arange(3))


def test_few_samples_show_less_of_a_share_and_all_of_a_mean() -> None:
    shares, means = (metric_for(torch.eye(8), name) for name in ("top-1", "cosine"))
    full = Agreement("", 1.0, count=100)

    assert shares.shown(full) == pytest.approx(0.974, abs=5e-4)
    assert means.shown(full) == 1.0

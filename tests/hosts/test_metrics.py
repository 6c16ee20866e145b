"""The metric that fits the outputs of other libraries' models."""

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from modswap.ops.heal.measures.agreement import agreement
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.measures.outputs import compared
from modswap.ops.heal.samples import HeldSamples

SLOW = (pytest.mark.slow,)
CI = (pytest.mark.slow, pytest.mark.ci)
PICTURES = HeldSamples((torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0)),))
SENTENCES = HeldSamples(
    (),
    kwargs={
        "input_ids": torch.arange(32).view(4, 8),
        "attention_mask": torch.tensor([[1] * 8, [1] * 8, [1] * 5 + [0] * 3, [1] * 2 + [0] * 6]),
    },
)


def yolo(kind: str, name: str) -> nn.Module:
    tasks = importlib.import_module("ultralytics.nn.tasks")
    made: nn.Module = getattr(tasks, f"{kind}Model")(name, verbose=False)
    return made


def bert(name: str) -> nn.Module:
    transformers = importlib.import_module("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=16, vocab_size=40)
    made: nn.Module = getattr(transformers, name)(config)
    return made


def timm(classes: int) -> nn.Module:
    library = importlib.import_module("timm")
    made: nn.Module = library.create_model("resnet10t", num_classes=classes)
    return made


@pytest.mark.parametrize(
    ("build", "args", "samples", "name"),
    [
        (yolo, ("Detection", "yolo11n.yaml"), PICTURES, "boxes"),
        pytest.param(
            yolo, ("Detection", "yolov10n.yaml"), PICTURES, "boxes", marks=pytest.mark.slow
        ),
        pytest.param(
            yolo, ("Detection", "yolo26n.yaml"), PICTURES, "boxes", marks=pytest.mark.slow
        ),
        pytest.param(yolo, ("Segmentation", "yolo11n-seg.yaml"), PICTURES, "boxes", marks=SLOW),
        pytest.param(yolo, ("Pose", "yolo11n-pose.yaml"), PICTURES, "boxes", marks=SLOW),
        pytest.param(yolo, ("OBB", "yolo11n-obb.yaml"), PICTURES, "boxes", marks=SLOW),
        pytest.param(yolo, ("Classification", "yolo11n-cls.yaml"), PICTURES, "top-1", marks=SLOW),
        (bert, ("BertModel",), SENTENCES, "cosine"),
        (bert, ("BertForMaskedLM",), SENTENCES, "top-1"),
        pytest.param(bert, ("BertForSequenceClassification",), SENTENCES, "top-1", marks=SLOW),
        pytest.param(timm, (0,), PICTURES, "cosine", marks=CI),
        pytest.param(timm, (10,), PICTURES, "top-1", marks=SLOW),
    ],
)
def test_a_model_agrees_with_itself_by_the_metric_of_its_head(
    build: Any, args: tuple[Any, ...], samples: HeldSamples, name: str
) -> None:
    torch.manual_seed(0)
    model = build(*args).eval()
    batch = samples.batch(range(4))
    with torch.no_grad():
        outputs = model(*batch.args, **batch.kwargs)

    metric = metric_for(outputs, model=model)
    found = agreement(model, model, samples, range(4), 3, metric)

    assert metric.name == name
    assert found.value == pytest.approx(1.0)
    assert (found.error, found.count) == (0.0, 4)
    assert not any("feats" in place for place in compared(outputs, batch))

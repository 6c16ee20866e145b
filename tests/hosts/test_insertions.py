"""Modules put in after stages of the host libraries' models: names, bits, fuse, files, training."""

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import Policy
from modswap.core.errors import ShapeError
from modswap.live_values import live_tensors
from modswap.nn.insertion import Insertion
from modswap.ops.examine.table import examination_names
from modswap.ops.recipes import parse_recipe
from tests.hosts.test_survival import only_in, swap, trained_with, yolo, yolo_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own
__all__ = ["yolo"]  # the fixture
SKIPPED = f"verify: {{skip: [{', '.join(examination_names())}]}}"
X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
ROWS = {
    "CBAM": "",
    "CoordinateAttention": "",
    "ECA": "",
    "SEBlock": "",
    "BiLevelRoutingAttention": ", args: {n_win: 2, topk: 2}",
}


def detector(name: str) -> nn.Module:
    model: nn.Module = only_in("ultralytics.nn.tasks").DetectionModel(
        f"{name}.yaml", nc=1, verbose=False
    )
    return model


def resnet() -> nn.Module:
    model: nn.Module = only_in("timm").create_model("resnet18", num_classes=10)
    return model


def unet() -> nn.Module:
    model: nn.Module = only_in("segmentation_models_pytorch").Unet("resnet18", encoder_weights=None)
    return model


def segformer() -> nn.Module:
    transformers = only_in("transformers")
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 64, 96],
        num_attention_heads=[1, 2, 2, 3],
        decoder_hidden_size=32,
    )
    model: nn.Module = transformers.SegformerForSemanticSegmentation(config)
    return model


HOSTS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "yolov8n": (lambda: detector("yolov8n"), "model.{4,6,9}", 355),
    "yolo11n": (lambda: detector("yolo11n"), "model.{4,6,9}", 499),
    "resnet18": (resnet, "layer{2,3,4}", 122),
    "unet": (unet, "encoder.layer{2,3,4}", 182),
    "segformer": (segformer, "segformer.stages.{1,2,3}", 124),
}
IN_CI = ("yolov8n", "segformer")
GRID = [
    pytest.param(host, row, marks=[pytest.mark.ci] * (row == "ECA" and host in IN_CI))
    for host in HOSTS
    for row in ROWS
]


@cache
def built(host: str) -> nn.Module:
    torch.manual_seed(0)
    return HOSTS[host][0]().eval()


def inserted(model: nn.Module, place: str, row: str) -> nn.Module:
    """Return a copy of a model with a row put in by a rule."""
    text = f"version: 1\n{SKIPPED}\ninputs: [{{shape: [2, 3, 64, 64]}}]\n"
    text += f"insert: [{{{place}, with: {row}{ROWS[row]}}}]\n"
    made = copy.deepcopy(model)
    modswap.replace(made, parse_recipe(text, "swap.yaml", "."))
    return made


def opened(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose gates are half open."""
    made = copy.deepcopy(model)
    for one in made.modules():
        if isinstance(one, Insertion) and one.gate is not None:
            one.gate.data.fill_(0.5)
    return made


def outputs(model: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        return live_tensors(model(X))


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(outputs(one), outputs(other), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.parametrize(("host", "row"), GRID)
def test_every_tensor_and_every_bit_is_kept(host: str, row: str) -> None:
    net = built(host)
    _, places, count = HOSTS[host]

    made = inserted(net, f"after: '{places}'", row)

    old, new = net.state_dict(), made.state_dict()
    assert len(old) == count
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert sum(isinstance(one, Insertion) for one in made.modules()) == 3
    assert equal(net, made)
    assert not equal(net, opened(made))
    assert equal(opened(made), copy.deepcopy(opened(made)))


@pytest.mark.parametrize("host", ["yolov8n", "yolo11n"])
def test_layers_that_join_or_detect_are_given_what_they_were(host: str) -> None:
    net = built(host)
    made = inserted(net, f"after: '{HOSTS[host][1]}'", "CBAM")

    def given(model: nn.Module) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []
        for layer in model.get_submodule("model").children():
            if type(layer).__name__ in {"Concat", "Detect"}:
                layer.register_forward_pre_hook(
                    lambda _, args: seen.extend(t.clone() for t in live_tensors(args))
                )
        outputs(model)
        return seen

    before, after = given(copy.deepcopy(net)), given(copy.deepcopy(made))

    assert len(before) == 2 * 4 + 3
    assert all(map(torch.equal, before, after))
    read = [(m.i, m.f, m.type, m.np) for m in made.get_submodule("model").children()]
    assert read == [(m.i, m.f, m.type, m.np) for m in net.get_submodule("model").children()]


@pytest.mark.parametrize("host", ["yolov8n", "yolo11n"])
def test_a_fused_model_computes_the_same(host: str) -> None:
    net = built(host)
    made = inserted(net, f"after: '{HOSTS[host][1]}'", "CBAM")
    wide = opened(made)

    def fused(model: nn.Module) -> nn.Module:
        done: Any = copy.deepcopy(model)
        done.fuse(verbose=False)
        return done  # type: ignore[no-any-return] # a library without types

    assert equal(fused(net), fused(made))
    for was, now in zip(outputs(wide), outputs(fused(wide)), strict=True):
        assert float((was - now).abs().max()) < 1e-5 * max(1.0, float(was.abs().max()))


YOLO_RULE = "after: 'model.{4,6,9}'"
PREDICT = """\
import sys
import tests.hosts.conftest
import torch
from ultralytics import YOLO
net = YOLO(sys.argv[1])
found = net.predict(torch.load("x.pt"), imgsz=64, verbose=False)
kept = [n for n, _ in net.model.named_modules() if n.endswith(".cbam")]
torch.save((kept, net.model.float()(torch.load("x.pt"))[0], len(found)), sys.argv[2])
"""


def test_training_and_files_of_ultralytics_keep_what_was_put_in(yolo: Any, tmp_path: Path) -> None:
    payload = {"epoch": -1, "model": yolo_model(), "ema": None, "train_args": {"task": "detect"}}
    torch.save(payload, tmp_path / "net.pt")
    torch.save(X, tmp_path / "x.pt")
    policy = Policy(("ultralytics.*",))

    found = swap(tmp_path / "net.pt", f"{{{YOLO_RULE}, with: CBAM}}", "[1, 3, 64, 64]", policy)

    results = []
    for name in ("net", "out"):
        subprocess.run(
            [sys.executable, "-c", PREDICT, f"{name}.pt", f"{name}.out"], check=True, timeout=300
        )
        results.append(torch.load(f"{name}.out"))  # noqa: TID251 - written by the test itself
    (none, before, count), (names, after, same) = results
    assert none == []
    assert names == ["model.4.cbam", "model.6.cbam", "model.9.cbam"]
    assert torch.equal(before, after)
    assert count == same == 2
    kept = trained_with(found.fix, tmp_path)
    again = yolo.YOLO(str(kept.trainer.last))
    for model in (kept.model, again.model):
        assert type(model.model[4].cbam.module).__name__ == "CBAM"
    gate = again.model.model[4].cbam.gate
    assert bool((gate != 0).any())  # it was trained


@pytest.mark.parametrize(
    ("host", "place", "inputs"),
    [
        ("unet", "before: decoder.blocks.2, input: skip_connection", "decoder.blocks.2"),
        ("yolov8n", "before: 'model.11', input: [0, 1]", "model.11"),
    ],
)
def test_attention_on_one_skip_leaves_the_way_down_as_it_is(
    host: str, place: str, inputs: str
) -> None:
    net = built(host)
    made = inserted(net, place, "CBAM")
    wide = opened(made)

    assert equal(net, made)
    assert not equal(net, wide)
    # what the other modules before it return is the same, the gates open
    for name in {"unet": ("encoder",), "yolov8n": ("model.6", "model.10")}[host]:
        seen: list[list[torch.Tensor]] = []
        for model in (net, wide):
            handle = model.get_submodule(name).register_forward_hook(
                lambda _m, _a, out, seen=seen: seen.append(live_tensors(out))
            )
            outputs(model)
            handle.remove()
        assert all(map(torch.equal, *seen))
    assert isinstance(wide.get_submodule(f"{inputs}.cbam"), Insertion)


def test_an_input_that_a_host_names_is_listed_by_its_name() -> None:
    with pytest.raises(ShapeError, match=r"skip_connection: \(2, 64, 16, 16\)"):
        inserted(built("unet"), "before: decoder.blocks.2, input: 1", "CBAM")


@pytest.mark.parametrize("part", ["conv", "bn"])
def test_inside_a_convolution_that_is_fused_nothing_is_put_in(part: str) -> None:
    with pytest.raises(ShapeError, match=r"it is a part of 'model\.4\.cv1', a Conv"):
        inserted(built("yolov8n"), f"after: model.4.cv1.{part}", "CBAM")


@pytest.mark.ci
def test_checkpointing_of_timm_passes_a_stage_by_and_is_said() -> None:
    others = ", ".join(name for name in examination_names() if name != "survival")
    text = f"version: 1\nverify: {{skip: [{others}]}}\ninputs: [{{shape: [2, 3, 64, 64]}}]\n"
    made: Any = copy.deepcopy(built("resnet18"))
    rule = "insert: [{after: ['layer2', 'layer3.1'], with: ECA}]\n"

    outcome = modswap.replace(made, parse_recipe(text + rule, "swap.yaml", "."))

    assert outcome.verdict is not None
    (found,) = (one for one in outcome.verdict.findings if one.check == "survival")
    assert (found.path, found.status) == ("layer2.eca", "passed")
    assert found.fix == "do without `set_grad_checkpointing`, or put it in after layer2.1"
    wide: Any = opened(made)
    before = outputs(wide)
    wide.set_grad_checkpointing(True)
    assert not torch.equal(before[0], outputs(wide)[0])  # as the note says
    named: Any = opened(inserted(built("resnet18"), "after: 'layer2.1'", "ECA"))
    before = outputs(named)
    named.set_grad_checkpointing(True)
    assert torch.equal(before[0], outputs(named)[0])

"""One line does a swap on files of host libraries: no recipe, no input."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.ops.demo.network import build_network

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own


def only_in(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(model: nn.Module, side: int) -> nn.Module:
    """Return a model after one step of training."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.train().parameters(), 1e-3)
    found = model(torch.randn(2, 3, side, side))
    found = found if isinstance(found, torch.Tensor) else found["scores"]
    found.square().mean().backward()
    optimizer.step()
    return model.eval()


def saved_input(out: str) -> list[Any]:
    """Return the `inputs` of the recipe that was saved."""
    found: list[Any] = yaml.safe_load(Path(out).read_text())["inputs"]
    return found


def test_yolo_of_ultralytics_says_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = only_in("ultralytics.nn.tasks")
    model = trained(tasks.DetectionModel("yolov8n.yaml", verbose=False), 64)
    payload = {"epoch": 0, "model": None, "ema": model.half(), "train_args": {"imgsz": 96}}
    torch.save(payload, "yolov8n.pt")
    rule = ["--match", "model.{4,6}", "--class", "C2f", "--with", "BRA", "--allow", "ultralytics.*"]

    code = run(["replace", "yolov8n.pt", *rule, "-o", "out.pt", "--save-recipe", "a.yaml"])

    said = " ".join(capsys.readouterr().out.split())
    assert code == 0, said
    assert "took (1, 3, 96, 96), as train_args.imgsz in the file says" in said
    assert saved_input("a.yaml") == [{"shape": [1, 3, 96, 96]}]
    swapped = modswap.load("out.pt", allow=["ultralytics.*"]).float()
    assert type(swapped.get_submodule("model.6")).__name__ == "BiLevelRoutingAttention"


def test_weights_of_timm_are_built_by_a_factory_with_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    timm = only_in("timm")
    torch.save(timm.create_model("resnet18", num_classes=10).state_dict(), "net.pth")
    rule = ["--match", "layer4.*.conv2", "--with", "ACmix", "--format", "json"]
    factory = "timm:create_model(model_name='resnet18', num_classes=10)"

    assert run(["check", "net.pth", *rule, "--model", factory]) == 0

    why = "as pretrained_cfg.input_size in the model says"
    assert f"took (1, 3, 224, 224), {why}" in capsys.readouterr().out


def test_weights_of_torchvision_are_built_by_its_own_name() -> None:
    models = only_in("torchvision.models")
    torch.save(models.squeezenet1_1().state_dict(), "net.pth")
    rule = ["--match", "features.12.expand3x3", "--with", "SEBlock", "--adapt", "-q"]

    assert run(["check", "net.pth", *rule, "--model", "torchvision.models:squeezenet1_1"]) == 0


def test_network_of_the_demo_needs_no_input() -> None:
    torch.save(build_network(), "net.pt")
    rule = ["--match", "**.{space,channel}_attention", "--with", "CBAM", "--expect", "2"]

    assert run(["replace", "net.pt", *rule, "-o", "out.pt", "-q"]) == 0
    assert run(["tree", "net.pt", "--input", "auto", "-q"]) == 0

"""Lines of `modswap code --for` in the real libraries, run in a fresh process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.cli.app import run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own


def only_in(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")


def timm() -> nn.Module:
    model: nn.Module = only_in("timm").create_model("resnet10t", num_classes=3, in_chans=4)
    return model


def smp() -> nn.Module:
    library = only_in("segmentation_models_pytorch")
    model: nn.Module = library.Unet("resnet18", encoder_weights=None, classes=2)
    return model


def yolo() -> Any:
    tasks = only_in("ultralytics.nn.tasks")
    model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    model.args = {"task": "detect", "model": "yolov8n.yaml"}
    return {"epoch": -1, "model": model.half(), "ema": None, "train_args": {"task": "detect"}}


def segformer() -> nn.Module:
    library = only_in("transformers")
    config = library.SegformerConfig(
        hidden_sizes=[16, 32, 48, 64], depths=[1] * 4, num_labels=4, decoder_hidden_size=32
    )
    model: nn.Module = library.SegformerForSemanticSegmentation(config)
    return model


CASES: dict[str, tuple[Any, str, list[str], str]] = {
    "timm": (timm, "timm", ["--match", "layer1.0.conv2", "--with", "ACmix"], "1,4,64,64"),
    "smp": (smp, "smp", ["--match", "encoder.layer2.1.conv2", "--with", "ACmix"], "1,3,128,128"),
    "a layer of yolo": (
        yolo, "ultralytics", ["--match", "model.6", "--with", "BiLevelRoutingAttention"],
        "1,3,160,160",
    ),
    "inside a layer of yolo": (
        yolo, "ultralytics", ["--match", "model.6.m.0.cv2", "--with", "CBAM"], "1,3,160,160",
    ),
    "segformer": (
        segformer, "transformers",
        ["--match", "decode_head.linear_fuse", "--with", "ACmix"], "1,3,128,128",
    ),
}  # fmt: skip
ALLOW = [
    word
    for name in ("timm.*", "segmentation_models_pytorch.*", "ultralytics.*", "transformers.*",
                 "torchvision.models.resnet.BasicBlock")
    for word in ("--allow", name)
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes_as_this_one: None) -> Path:
    """Return the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_lines_give_the_swapped_model(
    name: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, host, rule, shape = CASES[name]
    torch.save(make(), "net.pt")
    assert run(["replace", "net.pt", *rule, "--input", shape, *ALLOW, "-o", "out.pt", "-q"]) == 0
    capfd.readouterr()

    assert run(["code", "out.pt", "--for", host, *ALLOW]) == 0

    said = capfd.readouterr()
    assert f"OK  the lines give the swapped model of {host} in a fresh process" in said.err
    Path("lines.py").write_text(said.out)
    done = subprocess.run([sys.executable, "lines.py"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["timm", "smp", "a layer of yolo"])
def test_standalone_file_of_a_librarys_model(
    name: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, _, rule, shape = CASES[name]
    torch.save(make(), "net.pt")
    assert run(["replace", "net.pt", *rule, "--input", shape, *ALLOW, "-o", "out.pt", "-q"]) == 0

    assert run(["code", "out.pt", "--standalone", "model.py", *ALLOW]) == 0

    assert "OK  its `load(file)` gives the swapped model in a process" in capfd.readouterr().err


def test_folder_of_transformers_is_loaded_by_from_pretrained(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    segformer().save_pretrained("net")  # type: ignore[operator] # a model of transformers
    _, host, rule, shape = CASES["segformer"]
    assert run(["replace", "net", *rule, "--input", shape, "-o", "out", "-q"]) == 0
    capfd.readouterr()

    assert run(["code", "out", "--for", host]) == 0

    assert '.from_pretrained("out")' in capfd.readouterr().out


def test_standalone_file_of_a_function_that_calls_transformers(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("build_net.py").write_text(
        "import transformers\n\n\ndef build():\n    config = transformers.SegformerConfig(\n"
        "        hidden_sizes=[16, 32, 48, 64], depths=[1] * 4, num_labels=4,\n"
        "        decoder_hidden_size=32,\n    )\n"
        "    return transformers.SegformerForSemanticSegmentation(config)\n"
    )
    _, _, rule, shape = CASES["segformer"]
    model = ["--model", "build_net.py:build"]
    torch.save(segformer().state_dict(), "net.pt")
    made = run(["replace", "net.pt", *rule, "--input", shape, *model, "-o", "out.pt", "-q"])
    assert made == 0

    assert run(["code", "out.pt", "--standalone", "model.py", *model]) == 0

    assert "OK  its `load(file)` gives the swapped model in a process" in capfd.readouterr().err


def test_standalone_file_of_a_whole_module_of_transformers(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, _, rule, shape = CASES["segformer"]
    torch.save(segformer(), "net.pt")
    command = [sys.executable, "-m", "modswap"]
    # in processes that have built no such model
    made = [*command, "replace", "net.pt", *rule, "--input", shape, *ALLOW, "-o", "out.pt", "-q"]
    subprocess.run(made, check=True)
    subprocess.run([*command, "code", "out.pt", "--standalone", "model.py", *ALLOW], check=True)

    assert "OK  its `load(file)` gives the swapped model in a process" in capfd.readouterr().err


SETTINGS = (
    "import os\n"
    'settings = dict(data="data.yaml", epochs=1, imgsz=64, batch=2, device="cpu", workers=0, '
    "plots=False, val=False, project=os.path.abspath('runs'), name='one', exist_ok=True)\n"
)
TRAINED = {
    "a layer of yolo": (
        """import json, pathlib
from ultralytics import YOLO
pathlib.Path("yolov8n_swapped.yaml").write_text(json.dumps(CONFIG))
YOLO("yolov8n_swapped.yaml").load("out.pt").train(**settings)
yolo = YOLO("kept.pt")
yolo.train(**{**settings, "name": "two"})
assert any(isinstance(m, BiLevelRoutingAttention) for m in yolo.model.modules())
""",
        "BiLevelRoutingAttention",
    ),
    "inside a layer of yolo": ("yolo.train(trainer=Keeping, **settings)\n", "CBAM"),
}


def write_images(folder: Path) -> None:
    """Write two images with a box each, as Ultralytics reads them."""
    cv2 = only_in("cv2")
    numpy = only_in("numpy")
    for part in ("images", "labels"):
        (folder / "set" / part).mkdir(parents=True)
    for number in range(2):
        pixels = numpy.full((64, 64, 3), 50 * number, dtype="uint8")
        cv2.imwrite(str(folder / "set" / "images" / f"{number}.png"), pixels)
        (folder / "set" / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    names = {number: f"kind {number}" for number in range(80)}
    where = f"path: {folder}\ntrain: set/images\nval: set/images\nnames: {names}\n"
    (folder / "data.yaml").write_text(where)


@pytest.mark.parametrize("name", TRAINED)
def test_lines_train_the_swapped_model_for_an_epoch(
    name: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, host, rule, shape = CASES[name]
    write_images(folder)
    torch.save(make(), "net.pt")
    assert run(["replace", "net.pt", *rule, "--input", shape, *ALLOW, "-o", "out.pt", "-q"]) == 0
    capfd.readouterr()
    kept = ["-o", "kept.pt"] if name == "a layer of yolo" else []
    assert run(["code", "out.pt", "--for", host, *ALLOW, "-q", *kept]) == 0
    train, new = TRAINED[name]
    Path("lines.py").write_text(capfd.readouterr().out + SETTINGS + train)

    done = subprocess.run([sys.executable, "lines.py"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    last = next(Path("runs").rglob("one/weights/last.pt"))
    code = (
        "import sys, torch\n" + Path("lines.py").read_text().split("\n# rows of")[0]
        if name == "a layer of yolo"
        else "import torch\n"
    )
    code += (
        f"\nfound = torch.load({str(last)!r}, weights_only=False)\n"
        "model = found['ema'] or found['model']\n"
        f"assert any({new!r} in str(type(m).__mro__) for m in model.modules())\n"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr[-2000:]

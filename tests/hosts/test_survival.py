"""Tests that the lines in a report keep a swap where host libraries would lose it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.finding import Finding
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.examine.table import examination_names
from modswap.ops.jobs.replace import check_file, replace_file
from tests.models import GatedNet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own
CLASS = "BiLevelRoutingAttention"


def only_in(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")


def swap(
    file: Path, rule: str, shape: str, policy: Policy | None = None, model: str | None = None
) -> Finding:
    """Swap into `out` beside the file, and return the finding about the host library."""
    rules = "replace" if "match" in rule else "insert"
    skipped = ", ".join(name for name in examination_names() if name != "survival")
    text = f"version: 1\nverify: {{skip: [{skipped}]}}\n"
    text += f"inputs: [{{shape: {shape}}}]\n{rules}: [{rule}]\n"
    recipe = parse_recipe(text, "swap.yaml", ".")
    subject = Subject(file, policy or Policy(), model)
    checked = check_file(Job(subject, recipe))
    outcome = replace_file(Job(subject, recipe, file.with_name(f"out{file.suffix}")))
    found = []
    for one in (checked, outcome):
        assert one.error is None, one.error
        assert one.verdict is not None
        found += [f for f in one.verdict.findings if f.check == "survival"]
    first, second = found
    named = second.fix.replace(str(file.with_name(f"out{file.suffix}")), f"out{file.suffix}")
    assert first == dataclasses.replace(second, fix=named)
    assert first.status == "passed"
    return first


def carried_out(lines: str, **known: Any) -> dict[str, Any]:
    """Run the lines of a report in the current folder."""
    names = dict(known)
    exec(lines, names)
    return names


YOLO_RULE = '{match: "model.{4,6}", class: C2f, with: BiLevelRoutingAttention}'
TRAINING = (
    "epochs=1, imgsz=64, batch=2, workers=0, device='cpu', plots=False, amp=False, verbose=False"
)


def detection_data(folder: Path) -> None:
    """Write four images with a box each, and the file that names them."""
    image = only_in("PIL.Image")
    for part in ("images", "labels"):
        (folder / "data" / part).mkdir(parents=True)
    for number in range(4):
        pixels = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
        image.fromarray(pixels).save(folder / "data" / "images" / f"{number}.png")
        (folder / "data" / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    told = {"path": str(folder / "data"), "train": "images", "val": "images", "names": {0: "a"}}
    (folder / "data.yaml").write_text(yaml.safe_dump(told))


def yolo_model() -> nn.Module:
    model: nn.Module = only_in("ultralytics.nn.tasks").DetectionModel(
        "yolov8n.yaml", nc=1, verbose=False
    )
    vars(model).update(args={"task": "detect", "model": "yolov8n.yaml"}, names={0: "a"})
    return model


@pytest.fixture
def yolo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return Ultralytics, in a folder with data, with an `nms` that works without torchvision."""
    ultralytics = only_in("ultralytics")
    if not torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU"):
        # the library's own, which it uses where torchvision is not installed
        own = only_in("ultralytics.utils.nms").TorchNMS.nms
        monkeypatch.setattr(only_in("torchvision").ops, "nms", own)
    detection_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    return ultralytics


def trained_with(lines: str, folder: Path) -> Any:
    """Run lines that train, for one short epoch, into a folder; return the `YOLO`."""
    assert "data='data.yaml'" in lines
    more = f"data='data.yaml', {TRAINING}, project={str(folder / 'runs')!r}"
    return carried_out(lines.replace("data='data.yaml'", more))["yolo"]


def test_training_by_ultralytics_loses_the_swap_and_the_lines_keep_it(
    yolo: Any, tmp_path: Path
) -> None:
    payload = {"epoch": -1, "model": yolo_model(), "ema": None, "train_args": {"task": "detect"}}
    torch.save(payload, tmp_path / "net.pt")

    found = swap(tmp_path / "net.pt", YOLO_RULE, "[1, 3, 64, 64]", Policy(("ultralytics.*",)))

    assert "`YOLO(...).train()` builds the model anew from its YAML" in found.what
    plain = "from ultralytics import YOLO\nyolo = YOLO('out.pt')\nyolo.train(data='data.yaml')"
    assert type(trained_with(plain, tmp_path).model.model[4]).__name__ == "C2f"
    before = yolo.YOLO("out.pt").model.model[4].state_dict()
    kept = trained_with(found.fix, tmp_path)
    assert type(kept.model.model[4]).__name__ == CLASS
    again = yolo.YOLO(str(kept.trainer.last))
    after = again.model.model[4].state_dict()
    assert not all(torch.equal(before[name], after[name].float()) for name in before)
    assert len(again.predict(torch.zeros(1, 3, 64, 64), imgsz=64, verbose=False)) == 1


def test_lines_for_a_bare_module_of_ultralytics_keep_the_swap(yolo: Any, tmp_path: Path) -> None:
    torch.save(yolo_model(), tmp_path / "net.pt")

    found = swap(tmp_path / "net.pt", YOLO_RULE, "[1, 3, 64, 64]", Policy(("ultralytics.*",)))

    kept = trained_with(found.fix, tmp_path)
    assert type(kept.model.model[4]).__name__ == CLASS
    assert type(yolo.YOLO(str(kept.trainer.last)).model.model[4]).__name__ == CLASS


def test_folder_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = only_in("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1])
    transformers.ConvNextForImageClassification(config).save_pretrained(tmp_path / "net")
    monkeypatch.chdir(tmp_path)

    found = swap(
        tmp_path / "net", '{match: "**.stages.2.layers.0", with: ConvGate}', "[2, 3, 64, 64]"
    )

    assert "`from_pretrained` and `create_model` build the model of config.json" in found.what

    def gates(model: nn.Module) -> list[str]:
        return [p for p, m in model.named_modules() if type(m).__name__ == "ConvGate"]

    try:
        rebuilt = transformers.ConvNextForImageClassification.from_pretrained("out")
    except RuntimeError:
        rebuilt = nn.Identity()  # newer versions may refuse
    assert gates(rebuilt) == []
    assert len(gates(carried_out(found.fix)["model"])) == 1


def test_folder_of_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diffusers = only_in("diffusers")
    kinds = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    model = diffusers.VQModel(block_out_channels=(16,), norm_num_groups=4, **kinds)
    model.save_pretrained(tmp_path / "net")
    monkeypatch.chdir(tmp_path)

    found = swap(
        tmp_path / "net",
        "{match: decoder.mid_block.attentions.0, with: MultiHeadSelfAttention}",
        "[2, 3, 16, 16]",
    )

    assert "would lose the swap" in found.what
    rebuilt = diffusers.VQModel.from_pretrained("out")
    attention = rebuilt.decoder.mid_block.attentions[0]
    assert type(attention).__name__ == "Attention"
    kept = carried_out(found.fix)["model"].decoder.mid_block.attentions[0]
    assert type(kept.module).__name__ == "MultiHeadSelfAttention"


def test_folder_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = only_in("timm")
    (tmp_path / "net").mkdir()
    model = timm.create_model("resnet10t", num_classes=3)
    save_file(model.state_dict(), tmp_path / "net" / "model.safetensors")
    config = {"architecture": "resnet10t", "num_classes": 3, "model_args": {}}
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)

    found = swap(
        tmp_path / "net", '{match: "layer4.0.conv2", with: ConvGate, adapt: true}', "[2, 3, 64, 64]"
    )

    with pytest.raises(RuntimeError, match=r"layer4\.0\.conv2"):
        timm.create_model("resnet10t", num_classes=3, checkpoint_path="out/model.safetensors")
    kept = carried_out(found.fix)["model"]
    assert kept(torch.randn(2, 3, 64, 64)).shape == (2, 3)


FACTORY = """\
import torch
import pytorch_lightning
from tests.models import GatedNet

class Task(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = GatedNet()
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, index):
        return self.net(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)
"""
PLAIN = """\
from torch import nn
from tests.models import GatedNet

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = GatedNet()
    def forward(self, x):
        return self.net(x)
"""


@pytest.mark.parametrize("factory", ["task.py:Task", "plain.py:Net"])
def test_checkpoint_of_lightning(
    factory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lightning = only_in("pytorch_lightning")
    (tmp_path / "task.py").write_text(FACTORY)
    (tmp_path / "plain.py").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    task_class = carried_out(FACTORY, __name__="task")["Task"]

    def trainer(epochs: int) -> Any:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=tmp_path,
        )

    data = DataLoader(TensorDataset(torch.randn(4, 3, 28, 28)), batch_size=2)
    first = trainer(1)
    first.fit(task_class(), data)
    first.save_checkpoint(tmp_path / "net.ckpt")
    rule = f"{{match: '**.space_attention', with: {CLASS}}}"

    found = swap(tmp_path / "net.ckpt", rule, "[2, 3, 28, 28]", model=factory)

    with pytest.raises(RuntimeError, match="space_attention"):
        task_class.load_from_checkpoint("out.ckpt", weights_only=False)
    names = carried_out(found.fix, trainer=trainer(2), task=task_class(), data=data)
    assert type(names["task"].net.space_attention).__name__ == CLASS
    assert names["trainer"].global_step == 4  # two more than before


def test_other_models_are_not_taken_for_a_hosts(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")
    text = "version: 1\ninputs: [{shape: [1, 3, 28, 28]}]\n"
    text += f"replace: [{{match: space_attention, with: {CLASS}}}]\n"
    subject = Subject(tmp_path / "net.pt", Policy(("tests.models.*",)))

    outcome = check_file(Job(subject, parse_recipe(text, "swap.yaml", ".")))

    assert outcome.verdict is not None
    assert not [one for one in outcome.verdict.findings if one.check == "survival"]

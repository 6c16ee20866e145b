"""Tests that host libraries resume training from swapped checkpoints."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import replace_file
from tests.models import GatedNet

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own


def only_in(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")


def swap(file: Path, rule: str, shape: str, policy: Policy, model: str | None = None) -> Outcome:
    text = f"version: 1\ninputs: [{{shape: {shape}}}]\nreplace: [{rule}]\n"
    recipe = parse_recipe(text, "swap.yaml", ".")
    out = file.with_name(f"out{file.suffix}")
    outcome = replace_file(Job(Subject(file, policy, model), recipe, out))
    assert outcome.error is None
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    return outcome


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    named = model.named_parameters()
    return {name: optimizer.state[p] for name, p in named if p in optimizer.state}


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_yolo_checkpoint_is_trained_on(name: str, tmp_path: Path) -> None:
    tasks = only_in("ultralytics.nn.tasks")
    ultralytics = only_in("ultralytics")
    build: Callable[..., torch.optim.Optimizer]
    build = only_in("ultralytics.engine.trainer").BaseTrainer.build_optimizer
    trainer = SimpleNamespace(args=SimpleNamespace(), data={})

    def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
        return build(trainer, model, name, lr=0.01, momentum=0.9, decay=1e-4)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        given = model.train()(torch.randn(2, 3, 160, 160))
        maps = given if isinstance(given, list) else list(given.values())
        torch.stack([m.square().mean() for m in maps if torch.is_tensor(m)]).sum().backward()
        optimizer.step()

    model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    model.args = {"task": "detect", "model": "yolov8n.yaml"}
    old = optimizer_of(model)
    step(model, old)
    optimizer_state = old.state_dict()
    payload = {
        "epoch": 3,
        "model": None,
        "ema": tasks.copy.deepcopy(model).half() if hasattr(tasks, "copy") else model.half(),
        "updates": 40,
        "optimizer": optimizer_state,
        "train_args": {"task": "detect"},
    }
    torch.save(payload, tmp_path / "last.pt")
    rule = '{match: "model.{4,6}", class: C2f, with: BiLevelRoutingAttention}'

    outcome = swap(tmp_path / "last.pt", rule, "[1, 3, 160, 160]", Policy(("ultralytics.*",)))

    assert any("'optimizer' was remapped by name" in note for note in outcome.notes)
    written = torch.load(tmp_path / "out.pt", weights_only=False)  # noqa: TID251 - as the library
    assert (written["epoch"], written["updates"]) == (3, 40)
    swapped = written["ema"].float()
    new = optimizer_of(swapped)
    new.load_state_dict(written["optimizer"])
    before, after = moments(model, old), moments(swapped, new)
    kept = [n for n in before if not n.startswith(("model.4.", "model.6."))]
    assert set(after) == set(kept)
    for parameter in kept:
        for key, value in before[parameter].items():
            if torch.is_tensor(value):
                torch.testing.assert_close(after[parameter][key], value, rtol=0, atol=0)
    step(swapped, new)
    found = ultralytics.YOLO(str(tmp_path / "out.pt")).predict(
        torch.zeros(1, 3, 160, 160), imgsz=160, verbose=False
    )
    assert len(found) == 1


def test_lightning_checkpoint_is_trained_on(tmp_path: Path) -> None:
    lightning = only_in("pytorch_lightning")

    class Task(lightning.LightningModule):  # type: ignore[misc, name-defined] # its class is found at run time
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            out: torch.Tensor = self.net(batch[0])
            return out.square().mean()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

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
    task, first = Task(GatedNet()), trainer(1)
    first.fit(task, data)
    first.save_checkpoint(tmp_path / "net.ckpt")
    rule = "{match: '**.space_attention', with: BiLevelRoutingAttention}"
    factory = tmp_path / "factory.py"
    factory.write_text(
        "from torch import nn\nfrom tests.models import GatedNet\n"
        "class Task(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = GatedNet()\n"
        "    def forward(self, x):\n        return self.net(x)\n"
    )

    outcome = swap(tmp_path / "net.ckpt", rule, "[2, 3, 28, 28]", Policy(), f"{factory}:Task")

    assert any("'optimizer_states.0' was remapped" in note for note in outcome.notes)
    swapped = modswap.load(tmp_path / "out.ckpt", f"{factory}:Task")
    before = first.optimizers[0].state[task.get_parameter("net.head.weight")]["exp_avg"].clone()
    again = Task(swapped.get_submodule("net"))
    second = trainer(2)
    second.fit(again, data, ckpt_path=tmp_path / "out.ckpt", weights_only=False)
    assert second.global_step == 4  # two more than before
    written = torch.load(tmp_path / "out.ckpt", weights_only=True)  # noqa: TID251 - another reader
    state, groups = written["optimizer_states"][0]["state"], list(again.parameters())
    place = next(i for i, p in enumerate(groups) if p is again.get_parameter("net.head.weight"))
    assert torch.equal(state[place]["exp_avg"], before)
    original = torch.load(tmp_path / "net.ckpt", weights_only=True)  # noqa: TID251 - another reader
    for key in ("loops", "callbacks", "lr_schedulers", "epoch", "pytorch-lightning_version"):
        assert written[key] == original[key]

"""Tests of folders that Hugging Face's libraries wrote: config.json names the model."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import modswap
from modswap.core.asked.job import Job, Subject
from modswap.core.errors import CheckpointError, UsageError
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own


def only_in(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")


def swap(folder: Path, rule: str, more: str = "") -> Path:
    text = f"version: 1\ninputs: [{{shape: [2, 3, 64, 64]}}]\nreplace: [{rule}]\n{more}"
    work = Job(Subject(folder), parse_recipe(text, "swap.yaml", "."), folder.with_name("out"))
    assert check_file(work).error is None
    outcome = replace_file(work)
    assert outcome.error is None, outcome.error
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    assert any("from_pretrained" in note for note in outcome.notes)
    assert work.out is not None
    return work.out


def test_sharded_convnext_of_transformers(tmp_path: Path) -> None:
    transformers = only_in("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1])
    model = transformers.ConvNextForImageClassification(config)
    model.save_pretrained(tmp_path / "net", max_shard_size="100KB")
    assert len(list((tmp_path / "net").glob("*.safetensors"))) > 2

    out = swap(tmp_path / "net", '{match: "**.stages.2.layers.0", with: ConvGate}')

    loaded = modswap.load(out)
    x = torch.randn(2, 3, 64, 64)
    assert loaded(x).logits.shape == (2, 2)
    loaded(x).logits.sum().backward()
    for name, tensor in model.state_dict().items():
        if "stages.2.layers.0." not in name:
            assert torch.equal(loaded.state_dict()[name], tensor)


def test_folder_of_timm(tmp_path: Path) -> None:
    timm = only_in("timm")
    folder = tmp_path / "net"
    folder.mkdir()
    model = timm.create_model("resnet10t", num_classes=3)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": "resnet10t", "num_classes": 3, "model_args": {}}
    (folder / "config.json").write_text(json.dumps(config))

    rule = '{match: "layer4.0.conv2", with: ACmix, adapt: true}'
    out = swap(folder, rule, "verify: {sizes: narrower}\n")

    assert modswap.load(out)(torch.randn(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"_class_name": "UNet2DModel"}, "'UNet2DModel' of diffusers, which is not installed"),
        ({"architectures": ["Nowhere"], "model_type": "vit"}, "names 'Nowhere', which this trans"),
        ({"architectures": ["Trainer"], "model_type": "vit"}, "names 'Trainer', which this trans"),
        ({"architectures": ["os.system"], "model_type": "vit"}, "names 'os.system', which this t"),
        ("{", "it cannot be read"),
    ],
)
def test_config_that_names_no_model_is_refused(
    config: Any, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_in("transformers")
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as if it were not installed
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match=what):
        modswap.load(tmp_path)


@pytest.mark.parametrize("config", ["[1]", "{}"])
def test_config_that_says_nothing_is_passed_over(config: str, tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)

    with pytest.raises(UsageError, match="it holds weights without code"):
        modswap.load(tmp_path)

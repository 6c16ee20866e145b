"""What of a folder's config.json goes on to the library that builds the model."""

import json
from pathlib import Path
from typing import Any

import pytest

from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.ops.load.hub_config import architecture_of, checked_values, read_config

SOUND = {
    "model_type": "vit",
    "hidden_act": "gelu",
    "image_size": [224, 224],
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
    "drop_path": 0.1,
    "use_checkpoint": False,
    "unknown_and_plain": {"a": [1, "two", None], "b": 2.5},
    "time_step_limit": [0.0, float("inf")],
    "eos_token": "</s>",
    "torch_dtype": "torch.bfloat16",
    "task_specific_params": {"summarization": {"prefix": "summarize: "}},
    "version": "4.30.0.dev0",
    "id2label": {"0": "N/A", "1": "door/gate", "2": "../up", "3": "pic.png: old"},
    "label2id": {"N/A": 0, "door/gate": 1, "~/x.pt": 2},
    "label_names": ["a/b", "c:d"],
    "backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50.a1_in1k"},
    "checkpoint_path": None,
    "pretrained": False,
    "weights": "",
    "cache_dir": [],
}


def checked(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    return checked_values(values, folder / "config.json")


def test_plain_values_go_on_as_they_are(tmp_path: Path) -> None:
    found = checked(SOUND, tmp_path)

    assert found == SOUND
    assert found["backbone_config"] is not SOUND["backbone_config"]


def test_records_of_where_it_came_from_are_left_out_at_any_depth(tmp_path: Path) -> None:
    records = {
        "_name_or_path": "facebook/detr",
        "name_or_path": "/etc/x",
        "auto_map": {"AutoModel": "evil--modeling.Net"},
        "custom_pipelines": {"x": {"impl": "evil.Pipe"}},
        "pretrained_cfg": {"url": "https://a/b.pth"},
        "trust_remote_code": False,
    }

    found = checked({**records, "depth": 2, "backbone_config": {**records, "width": 3}}, tmp_path)

    assert found == {"depth": 2, "backbone_config": {"width": 3}}


def test_trained_backbone_is_not_asked_for(tmp_path: Path) -> None:
    values = {"backbone": "resnet50", "use_timm_backbone": True, "use_pretrained_backbone": True}

    assert checked(values, tmp_path) == {**values, "use_pretrained_backbone": False}


UNSAFE: dict[str, dict[str, Any]] = {
    "a file": {"checkpoint_path": "model/extra.bin"},
    "a file without a folder": {"checkpoint_path": "extra"},
    "a file in a list": {"model_args": {"a": [1, ["x/extra.bin"]]}},
    "an absolute path": {"hidden_act": "/folder/x"},
    "a path of Windows": {"hidden_act": "C:\\x"},
    "a share": {"hidden_act": "\\\\host\\x"},
    "a home folder": {"hidden_act": "~evil"},
    "a hidden folder": {"hidden_act": ".evil"},
    "the folder above": {"hidden_act": ".."},
    "a name of a file": {"hidden_act": "evil.PTH"},
    "a script": {"hidden_act": "evil.py"},
    "a file in the folder": {"hidden_act": "beside"},
    "a repository": {"hidden_act": "evil/repo"},
    "a repository by scheme": {"hidden_act": "hf_hub:evil"},
    "a repository by a dashed scheme": {"hidden_act": "hf-hub:evil"},
    "a folder by scheme": {"architecture": "local-dir:evil"},
    "an address": {"hidden_act": "https://host"},
    "an address without slashes": {"hidden_act": "http:host"},
    "a key that is a path": {"../x": 1},
    "a key that is a scheme": {"a": {"hf_hub:x": 1}},
    "kernels of a repository": {"attn_implementation": "evil/attention"},
    "remote code": {"trust_remote_code": True},
    "remote code below": {"backbone_kwargs": {"trust_remote_code": "yes"}},
    "remote code far below": {"a": [{"b": [{"trust_remote_code": 1}]}]},
    "trained weights": {"pretrained": True},
    "trained weights below": {"backbone_kwargs": {"pretrained": True}},
    "trained weights by name": {"weights": "IMAGENET1K_V1"},
    "a backbone": {"backbone": "evil"},
    "a backbone of the hub": {"backbone": "evil/net"},
    "a backbone of another library": {"backbone": "resnet50", "use_timm_backbone": False},
    "a backbone of timm by scheme": {"backbone": "hf_hub:x", "use_timm_backbone": True},
    "a backbone of timm in a list": {"backbone": ["resnet50"], "use_timm_backbone": True},
    "a file name key": {"vocab_file": "vocab"},
    "a folder key": {"cache_dir": "here"},
    "an address key": {"model_url": "here"},
    "a revision": {"code_revision": "main"},
    "a control character": {"hidden_act": "ge\x1blu"},
}


@pytest.mark.parametrize("case", UNSAFE)
def test_value_that_names_a_place_is_refused(case: str, tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()

    with pytest.raises(UnsafeError, match=r"config\.json: its '.*' is not passed on: ") as raised:
        checked({"depth": 1, **UNSAFE[case]}, tmp_path)

    assert "--model package.module:callable" in raised.value.fix


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"rate": float("nan")}, "its 'rate' is no number"),
        ({"a": {"size": 2**63}}, r"its 'a\.size' is 9\.223e\+18, which is too large"),
        ({"size": -(10**80)}, "which is too large"),
        ({"torch_dtype": "os"}, "its 'torch_dtype' is 'os', expected a dtype"),
        ({"text_config": {"dtype": "float32.real"}}, "expected a dtype"),
        ({"name": "a" * 1001}, "its 'name' has 1,001 characters"),
        ({"id2label": {"0": "a" * 1001}}, "has 1,001 characters"),
    ],
)
def test_value_that_no_program_writes_is_refused(
    values: dict[str, Any], what: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=what):
        checked(values, tmp_path)


@pytest.mark.parametrize(
    "name", ["hf_hub:evil/net", "local-dir:x", "a/b", "../a", "net.pth", "", "a b", "rés", "a\n"]
)
def test_name_of_a_model_of_timm_is_a_name(name: str, tmp_path: Path) -> None:
    assert architecture_of("convnext_atto.d2_in1k", tmp_path) == "convnext_atto.d2_in1k"
    with pytest.raises(UnsafeError, match="is no name of a model of timm"):
        architecture_of(name, tmp_path / "config.json")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 2}',
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"a": 1' + b"0" * 5000 + b"}",
        b'{"a": 1e999}',
        b"{}" + b" " * (5 << 20),
    ],
)
def test_file_that_no_program_writes_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)

    with pytest.raises(ModswapError) as raised:
        read_config(tmp_path)

    assert raised.value.code == 3


def test_file_is_read_once_and_may_be_missing(tmp_path: Path) -> None:
    assert read_config(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps(SOUND))
    assert read_config(tmp_path) == SOUND
    (tmp_path / "config.json").write_text("[]")
    assert read_config(tmp_path) is None

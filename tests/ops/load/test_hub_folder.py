"""The class that a folder's config.json names; tests/hosts builds the libraries' own models."""

import sys
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.ops.load.hub_folder import pretrained


@pytest.mark.parametrize("text", ["[]", "{}", '{"architectures": []}', '{"model_type": "vit"}'])
def test_config_that_names_no_class_builds_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)

    assert pretrained(tmp_path) is None


def test_folder_without_a_config_builds_nothing(tmp_path: Path) -> None:
    assert pretrained(tmp_path) is None
    assert pretrained(tmp_path / "net.pt") is None


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_damaged_config_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)

    with pytest.raises(CheckpointError, match=r"config\.json: it cannot be read: "):
        pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ('{"_class_name": "UNet2DModel"}', "diffusers"),
        ('{"architectures": ["ViTModel"], "model_type": "vit"}', "transformers"),
        ('{"architecture": "resnet18"}', "timm"),
    ],
)
def test_library_that_is_not_installed_is_named(
    text: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not there
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match=f"of {library}, which is not installed") as caught:
        pretrained(tmp_path)

    assert caught.value.fix.startswith(f"pip install {library}")

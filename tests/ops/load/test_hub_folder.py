"""The class that a folder's config.json names; tests/hosts builds the libraries' own models."""

import json
import socket
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.errors import CheckpointError, UnsafeError
from modswap.ops.load.hub_folder import pretrained

WEIGHTS = {"layer.weight": torch.ones(2, 2), "layer.bias": torch.ones(2)}


def put_first(folder: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a library be imported from a folder until the end of the test, installed or not."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(sys.modules, library, None)  # undone also where there is nothing to delete
    del sys.modules[library]


@pytest.mark.parametrize("text", ["[]", "{}", '{"architectures": []}', '{"model_type": "vit"}'])
def test_config_that_names_no_class_builds_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)

    assert pretrained(tmp_path, WEIGHTS) is None


def test_folder_without_a_config_builds_nothing(tmp_path: Path) -> None:
    assert pretrained(tmp_path, WEIGHTS) is None
    assert pretrained(tmp_path / "net.pt", WEIGHTS) is None


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_damaged_config_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)

    with pytest.raises(CheckpointError, match=r"config\.json: it(s values are| cannot be)"):
        pretrained(tmp_path, WEIGHTS)


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
        pretrained(tmp_path, WEIGHTS)

    assert caught.value.fix.startswith(f"pip install {library}")


def test_library_whose_import_raises_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "diffusers.py").write_text("raise RuntimeError('operator does not exist')\n")
    put_first(tmp_path, "diffusers", monkeypatch)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')

    with pytest.raises(CheckpointError, match="whose import raised RuntimeError: operator"):
        pretrained(tmp_path, WEIGHTS)


# a library in a file, which does what its configuration says
LIBRARY = """
import pathlib, socket, urllib.request
from torch import nn

class Net(nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.get("width", 2), 2)
        if config.get("how") == "network":
            socket.create_connection(("127.0.0.1", config["port"]))
        if config.get("how") == "file":
            pathlib.Path(__file__).with_name("canary").touch()

    @classmethod
    def from_config(cls, config):
        return cls(**{key: value for key, value in config.items() if key != "_class_name"})
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "diffusers.py").write_text(LIBRARY)
    put_first(tmp_path / "lib", "diffusers", monkeypatch)
    (tmp_path / "net").mkdir()
    return tmp_path / "net"


def built(folder: Path, **values: object) -> nn.Module:
    config = {"_class_name": "Net", **values}
    (folder / "config.json").write_text(json.dumps(config))
    build = pretrained(folder, WEIGHTS)
    assert build is not None
    return build()


def test_model_gets_the_checked_values(library: Path) -> None:
    net = built(library, width=3, _name_or_path="a/b", act="gelu")

    assert net.config == {"width": 3, "act": "gelu"}


def test_folder_is_not_read_again(library: Path) -> None:
    (library / "config.json").write_text('{"_class_name": "Net", "width": 3}')
    build = pretrained(library, WEIGHTS)
    (library / "config.json").write_text('{"_class_name": "Net", "width": 4}')

    assert build is not None
    assert build().get_parameter("layer.weight").shape == (2, 3)


def test_model_that_asks_for_the_network_gets_none(library: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]

        with pytest.raises(UnsafeError, match="asked for the network"):
            built(library, how="network", port=port)

        with pytest.raises(BlockingIOError):
            server.accept()


def test_model_that_asks_for_a_file_gets_none(library: Path) -> None:
    with pytest.raises(UnsafeError, match="asked to write the file"):
        built(library, how="file")

    assert not (library.parent / "lib" / "canary").exists()


def test_unsafe_value_is_refused_before_anything_is_built(library: Path) -> None:
    with pytest.raises(UnsafeError, match=r"config\.json: its 'weights' is not passed on"):
        built(library, weights="evil.bin")


@pytest.mark.parametrize("width", [10**12, 10**10, 10**18])
def test_model_beyond_its_weights_takes_no_memory(width: int, library: Path) -> None:
    with pytest.raises(CheckpointError, match="takes more memory than its weights can fill"):
        built(library, width=width)

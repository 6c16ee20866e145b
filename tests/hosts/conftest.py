"""Settings under which the host libraries import beside a CPU build of torch."""

import os
import tempfile
from pathlib import Path

# nothing may be fetched
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["YOLO_OFFLINE"] = "1"
# read when Keras is imported, which writes its settings into a home of its own
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="keras-")

import pytest
import torch

_KEPT: list[torch.library.Library] = []


def declare_torchvision_operators() -> None:
    """Declare the two operators that torchvision's CUDA build needs to be imported.

    The models of the tests never call them.
    """
    library = torch.library.Library("torchvision", "DEF")
    try:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        return  # a build that works has declared them
    _KEPT.append(library)


if torch.version.cuda is None:
    declare_torchvision_operators()


@pytest.fixture
def processes_as_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that a test starts import the libraries as this one does."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import tests.hosts.conftest\n")
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "site"), str(root))))

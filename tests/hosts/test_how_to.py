"""Every block of `docs/libraries.md` runs as it is written, with the real libraries."""

import re
import sys
from pathlib import Path

import pytest
import torch

from tests.docs.console import Reader

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own
TEXT = (Path(__file__).parents[2] / "docs" / "libraries.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n([\s\S]*?)(?=^## |\Z)", TEXT, re.MULTILINE))
# by the heading of its section, each library and the names to which a model's modules belong
LIBRARIES = {
    "timm": ("timm", "BiLevelRoutingAttention"),
    "torchvision": ("torchvision", "CBAM"),
    "segmentation-models-pytorch": ("segmentation_models_pytorch", "CBAM"),
    "transformers": ("transformers", "BiLevelRoutingAttention"),
    "Lightning": ("pytorch_lightning", "ACmix"),
    "Ultralytics": ("ultralytics", "BiLevelRoutingAttention"),
}
LAST = {"Lightning": "task", "Ultralytics": "yolo"}  # the loaded model, elsewhere `model`


def test_page_has_a_section_for_each_library() -> None:
    assert list(SECTIONS) == list(LIBRARIES)


@pytest.mark.parametrize("section", LIBRARIES)
def test_section_leads_to_the_swapped_model(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes_as_this_one: None
) -> None:
    library, new = LIBRARIES[section]
    pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    reader = Reader()

    reader.follow(SECTIONS[section])

    model = reader.names[LAST.get(section, "model")]
    assert isinstance(model, torch.nn.Module)
    assert new in {type(module).__name__ for module in model.modules()}
    monkeypatch.delitem(sys.modules, "task", raising=False)

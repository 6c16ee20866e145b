"""Tests that need a GPU: `make test-gpu`. Elsewhere they are skipped."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
# Triton 3.9 warns where it is unset, and tests take warnings as errors
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
# torch refuses products of matrices under its switch for determinism without it; read at the first
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
NO_GPU = "no GPU: torch.cuda.is_available() is false"


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Take products of float32 in full; torch takes those of convolutions in TF32 by default."""
    # by hand: pytest's monkeypatch cannot put these back
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        # torch warns of the card and its settings (of TF32 that is off, say): shown, no error
        item.add_marker(pytest.mark.filterwarnings("default"))
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=NO_GPU))

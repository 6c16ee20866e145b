"""`modswap.explain`, for callers from Python."""

import pytest
import torch

import modswap
from modswap.core.errors import ExplainError
from modswap.explanation import Explanation
from modswap.nn import ECA


@pytest.fixture(scope="module")
def found() -> Explanation:
    return modswap.explain(ECA(16).eval(), torch.zeros(2, 16, 4, 6), times=False)


def test_explanation_prints_as_text(found: Explanation) -> None:
    assert str(found) == found.text()
    assert "mean = x.mean((2, 3))" in found.text()
    assert found.text(width=60) != found.text()


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ExplainError, match=r"^explain: a lambda is no torch.nn.Module; give a mod"):
        modswap.explain(lambda x: x, torch.zeros(1))  # type: ignore[arg-type] # as users try
    with pytest.raises(ExplainError, match=r"^explain: Tensor is no torch.nn.Module"):
        modswap.explain(torch.zeros(1))  # type: ignore[arg-type] # as users try


def test_notebook_shows_the_page_in_a_frame_without_scripts(found: Explanation) -> None:
    shown = found._repr_html_()

    assert shown.startswith('<iframe sandbox title="modswap explain"')
    assert "&lt;!doctype html&gt;" in shown
    assert "<script" not in shown

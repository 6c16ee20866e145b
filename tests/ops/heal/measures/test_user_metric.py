"""A metric of the user's own, from a file."""

from pathlib import Path

import pytest
from torch import nn

from modswap.core.errors import ModswapError, UsageError
from modswap.ops.heal.measures.user_metric import user_metric

SOURCE = """
import torch
from modswap.core.errors import InputError

def weight(model):
    assert not model.training and not torch.is_grad_enabled()
    return model.weight.sum() * 0 + 2

def words(model):
    return "much"

def infinite(model):
    return float("inf")

def broken(model):
    raise KeyError("labels")

def lacking(model):
    raise InputError("no data", "here")

NUMBER = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "mine.py"


def test_the_function_gets_the_model_in_evaluation(file: Path) -> None:
    model = nn.Linear(2, 2)

    assert user_metric(f"{file}:weight")(model) == 2.0
    assert user_metric("mine.py:weight", str(file.parent))(model) == 2.0
    assert model.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("words", "returned 'much', expected a finite number; return one number for the model"),
        ("infinite", "returned inf, expected a finite number"),
        ("broken", r"raised KeyError: 'labels'; call it with the model to see why"),
        ("lacking", "^here: no data"),
    ],
)
def test_a_function_without_a_number_is_an_error(file: Path, name: str, message: str) -> None:
    measure = user_metric(f"{file}:{name}")

    with pytest.raises(ModswapError, match=message):
        measure(nn.Linear(2, 2))


def test_what_is_no_function_is_refused(file: Path) -> None:
    with pytest.raises(UsageError, match=r"--evaluate: '.*:NUMBER' is 3, expected a callable"):
        user_metric(f"{file}:NUMBER")

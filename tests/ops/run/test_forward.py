"""The dtype of a pass, and the tensors that it runs on."""

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.live_values import named_tensors
from modswap.nn.fake_tensors import needs_values
from modswap.ops.run.forward import pass_dtype, run_model
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from tests.models import Tied


def case(dtype: str | None = None, given: str = "float32") -> Case:
    call = DummyCall((TensorInput.model_validate({"shape": (1, 2), "dtype": given}),), {})
    return Case(call, dtype=dtype)


@pytest.mark.parametrize(
    ("stored", "asked", "given", "cast"),
    [
        ("float32", None, "float32", None),
        ("float16", None, "float32", torch.float32),
        ("bfloat16", None, "int64", torch.float32),
        ("float16", None, "float16", None),
        ("float64", None, "float32", torch.float64),
        ("float64", "bfloat16", "float32", torch.bfloat16),
    ],
)
def test_dtype_follows_the_case_the_input_and_the_stored_weights(
    stored: str, asked: str | None, given: str, cast: torch.dtype
) -> None:
    model = nn.Linear(2, 2).to(getattr(torch, stored))

    assert pass_dtype(model, case(asked, given)) is cast


def test_model_is_run_on_cast_copies_and_keeps_its_own_tensors() -> None:
    model = nn.BatchNorm1d(2)
    x = torch.ones(3, 2, dtype=torch.float64)

    output = run_model(model, (x,), {}, dtype=torch.float64, stand_ins=None)

    assert output.dtype is torch.float64
    assert model.weight.dtype is torch.float32
    assert model.running_mean is not None
    assert model.running_mean.tolist() == [0, 0]


@pytest.mark.parametrize("stand_ins", [meta_values, fake_values])
def test_stand_ins_have_shapes_and_no_data(stand_ins: object) -> None:
    model = nn.Linear(2, 3)

    output = run_model(model, (torch.ones(1, 2),), {}, dtype=None, stand_ins=stand_ins)  # type: ignore[arg-type] # one of two

    assert output.shape == (1, 3)
    assert type(output) is not torch.Tensor or output.is_meta


def test_tied_tensors_are_listed_by_each_name_and_stay_one_stand_in() -> None:
    model = Tied()
    names = named_tensors(model)
    shared = [name for name in names if sum(t is names[name] for t in names.values()) > 1]

    with meta_values(model) as (tensors, _):
        stand_ins = {id(tensors[name]) for name in shared}

    assert len(shared) > 1
    assert len(stand_ins) == 1


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("to", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("stand_ins", [None, meta_values, fake_values])
def test_tied_tensors_are_cast_as_one(
    stored: str, to: torch.dtype, stand_ins: StandIns | None
) -> None:
    model = Tied().to(getattr(torch, stored))

    output = run_model(
        model, (torch.zeros(2, 3, dtype=torch.int64),), {}, dtype=to, stand_ins=stand_ins
    )

    assert output.dtype is to


def test_cause_that_needs_values_is_found_through_the_chain() -> None:
    outer = RuntimeError("outer")
    outer.__cause__ = NotImplementedError("no data")

    assert needs_values(outer)
    assert not needs_values(ValueError("shape"))

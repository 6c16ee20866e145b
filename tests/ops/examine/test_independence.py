"""Samples of a batch that change one another."""

import pytest
import torch
from torch import nn

from modswap.io.recipe.reader import parse_recipe
from tests.ops.examine.swapped_blocks import DIM, Mixes, Wrap, examine, failed, here, recipe


class MixesSecond(nn.Module):
    """Adds the mean over the second axis, which is a batch where tokens come first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.mean(1, keepdim=True)


class TokensFirst(nn.Module):
    """A block between an embedding of whole numbers and a head: (N, L) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, DIM)
        self.block = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(self.embed(x).transpose(0, 1))
        return out.transpose(0, 1)


class OneOnly(nn.Module):
    """Takes one sample at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, x.shape[1], DIM)


def test_a_model_that_mixes_samples_as_a_whole_is_reported() -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(Mixes)))

    assert ("independence", "") in failed(found)


def test_samples_are_distinguished_where_the_original_passes_its_input_on() -> None:
    mixed = examine(Wrap(nn.Dropout()), recipe(here(Mixes)))
    sound = examine(Wrap(nn.Identity()), recipe("SelfAttention"))

    assert ("independence", "block") in failed(mixed)
    assert {one.status for one in sound} == {"passed"}


@pytest.mark.parametrize(("new", "status"), [(MixesSecond, "failed"), (nn.Tanh, "passed")])
def test_samples_of_whole_numbers_that_mix_are_found_in_the_model(
    new: type[nn.Module], status: str
) -> None:
    name = f"torch.nn:{new.__name__}" if new is nn.Tanh else here(new)
    text = (
        "version: 1\ninputs: [{shape: [3, 5], dtype: int64, fill: {integers: [0, 8]}}]\n"
        f"replace: [{{match: block, with: '{name}'}}]\n"
    )

    found = examine(TokensFirst(), parse_recipe(text, "swap.yaml", "."))

    (told,) = [one for one in found if (one.check, one.path) == ("independence", "")]
    assert told.status == status


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (Mixes, "sample 0 of a batch changes the output of other samples"),
        (OneOnly, "a batch of 2 is refused"),
    ],
)
def test_fault_of_a_module_alone_is_found(new: type[nn.Module], what: str) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)), "independence")

    (fault,) = [one for one in found if one.path and one.status == "failed"]
    assert what in fault.what


class LengthFirst(nn.Module):
    """Attention over the first axis, and one value for each sample: (L, N, C) -> (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(DIM, 1)
        self.block = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
        out: torch.Tensor = self.block(mixed).mean(0)
        return out


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("new", "status"), [("SelfAttention", "failed"), ("torch.nn:Tanh", "passed")]
)
def test_samples_along_the_second_axis_are_found(new: str, status: str, samples: int) -> None:
    inputs = f"inputs: [{{shape: [5, {samples}, {DIM}]}}]"
    rule = f"{{match: block, with: '{new}', layout: NLC}}"

    found = examine(
        LengthFirst(), parse_recipe(f"version: 1\n{inputs}\nreplace: [{rule}]\n", "swap.yaml", ".")
    )

    (told,) = [one for one in found if (one.check, one.path) == ("independence", "")]
    assert told.status == status
    assert ("second axis, the batch" in told.what) == (status == "failed")

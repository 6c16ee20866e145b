"""A swap in memory: prepared, verified, undone if the block raises.

Covers: outcomes.
"""

import pytest
import torch
from torch import nn

from modswap.core.errors import InputError, UsageError
from modswap.core.progress import silent
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.outcomes import count_params, failure, site_outcomes
from modswap.ops.swap import apply_recipe, prepare, verified
from tests.models import GatedNet

RULE = "replace: [{match: space_attention, with: SEBlock}]"
SHAPED = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{RULE}\n"


def test_preparing_leaves_the_model_as_it_is() -> None:
    model = GatedNet()
    before = list(model.named_modules())

    prepared = prepare(model, parse_recipe(SHAPED, "swap.yaml", "."))

    assert list(model.named_modules()) == before
    assert [paths for paths, _ in prepared.placements] == [("space_attention",)]


def test_swap_that_holds_stays_and_gives_the_old_modules() -> None:
    model = GatedNet()
    old = model.space_attention
    prepared = prepare(model, parse_recipe(SHAPED, "swap.yaml", "."))

    with verified(model, prepared, silent) as standing:
        assert standing.verdict.ok
        assert standing.old == {"space_attention": old}

    assert type(model.space_attention).__name__ == "SEBlock"
    (site,) = site_outcomes(prepared)
    assert site.old_class == "torch.nn.modules.container.Sequential"
    assert site.new_class.endswith(".SEBlock")
    assert site.new_params == count_params(model.space_attention)


def test_model_without_an_input_asks_for_one() -> None:
    with pytest.raises(UsageError, match="there is no dummy input"):
        prepare(GatedNet(), parse_recipe(f"version: 1\n{RULE}\n", "swap.yaml", "."))


@pytest.mark.parametrize("unreal", [True, False])
def test_input_that_the_model_refuses_names_the_module(unreal: bool) -> None:
    recipe = parse_recipe(SHAPED.replace("1, 3,", "1, 4,"), "swap.yaml", ".")

    with pytest.raises(InputError, match=r"refuses the dummy input \(1, 4, 28, 28\).* in 'stem'"):
        prepare(GatedNet(), recipe, unreal=unreal)


class Detector(nn.Module):
    """Takes a list of pictures of any sizes, as torchvision's detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)

    def forward(self, images: list[torch.Tensor]) -> list[torch.Tensor]:
        if any(image.ndim != 3 for image in images):
            raise ValueError("images is expected to be a list of 3d tensors")
        return [self.stem(image[None]) for image in images]


def test_model_that_takes_a_list_is_answered_with_how_to_write_one() -> None:
    text = "version: 1\ninputs: [{shape: [3, 8, 8]}]\nreplace: [{match: stem, with: SEBlock}]\n"

    with pytest.raises(InputError) as error:
        prepare(Detector(), parse_recipe(text, "swap.yaml", "."))

    assert "`inputs: [{args: [[{shape: [3, 64, 96]}]]}]`" in error.value.fix
    listed = text.replace("{shape: [3, 8, 8]}", "{args: [[{shape: [3, 64, 96]}]]}")
    assert prepare(Detector(), parse_recipe(listed, "swap.yaml", ".")).built


class Broken(nn.Module):
    """A module that changes the size of its map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :1]


def test_verdict_that_does_not_hold_becomes_one_error_with_its_path() -> None:
    model = GatedNet()
    prepared = prepare(model, parse_recipe(SHAPED, "swap.yaml", "."))
    prepared.built[0].module.forward = Broken().forward

    with verified(model, prepared, silent) as standing:
        error = failure(standing.verdict)

    assert not standing.verdict.ok
    assert error.where == "space_attention"


def test_recipe_gives_a_fresh_model_its_structure() -> None:
    model = GatedNet()

    assert apply_recipe(model, parse_recipe(SHAPED, "swap.yaml", ".")) is model
    assert type(model.space_attention).__name__ == "SEBlock"


def test_an_error_before_the_model_is_called_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = GatedNet()
    recipe = parse_recipe(SHAPED, "swap.yaml", ".")
    prepared = prepare(model, recipe)
    monkeypatch.setattr("modswap.ops.trace.passes.run_model", int)  # raises, in no file of a user

    with pytest.raises(TypeError):
        prepare(model, recipe)
    with pytest.raises(TypeError), verified(model, prepared, silent):
        pass


class CallsOddly(nn.Conv2d):
    """Raises before its forward, in code of its own."""

    def __call__(self, *_: object) -> None:
        raise ValueError("not today")


def test_an_error_of_the_models_own_call_is_the_models() -> None:
    text = "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\nreplace: [{match: '*', with: ECA}]\n"

    with pytest.raises(InputError, match="ValueError: not today"):
        prepare(CallsOddly(3, 3, 1), parse_recipe(text, "swap.yaml", "."))

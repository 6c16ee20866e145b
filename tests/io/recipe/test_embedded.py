"""A recipe inside a file asks for less than a recipe of the user may."""

import pytest

from modswap.core.errors import CheckpointError, RecipeError
from modswap.io.recipe.embedded import embedded_inputs, embedded_recipe

RULE = "replace: [{match: '**.gate', with: SEBlock}]"
INPUT = "inputs: [{shape: [1, 3, 64, 64]}]"


def test_sound_recipe_is_read() -> None:
    recipe = embedded_recipe(f"{{version: 1, {INPUT}, {RULE}}}", "net.pt")

    assert recipe.replace[0].match == ("**.gate",)


def test_call_with_a_number_beside_its_tensor_is_read() -> None:
    call = "inputs: [{args: [{shape: [1, 3, 64, 64]}, 5]}]"

    assert len(embedded_recipe(f"{{version: 1, {call}, {RULE}}}", "net.pt").inputs) == 1


@pytest.mark.parametrize(
    ("inputs", "rules", "wrong"),
    [
        (INPUT, "replace: [{match: 're:(a+)+b', with: SEBlock}]", "it has a regular expression"),
        (
            INPUT,
            "replace: [{match: gate, exclude: [x, 're:.*'], with: SEBlock}]",
            "it has a regular expression",
        ),
        (
            INPUT,
            f"replace: [{{match: [{', '.join(['b' * 900] * 30)}], with: SEBlock}}]",
            "its patterns have over 20,000 characters",
        ),
        (
            "inputs: [{shape: [1, 3, 12000, 12000]}]",
            RULE,
            "it asks for an input of 432,000,000 elements, over 16,777,216",
        ),
        (
            "inputs: [{args: [[{shape: [9999, 9999]}]], kwargs: {x: {a: {shape: [2]}}}}]",
            RULE,
            "it asks for an input of 99,980,003 elements",
        ),
        (
            f"{INPUT}, verify: {{sizes: [[64, 64], [9000, 9000]]}}",
            RULE,
            "it asks for an input of 243,000,000 elements",
        ),
        (
            f"{INPUT}, verify: {{modes: [eval, train], sizes: [{', '.join(['[8, 8]'] * 40)}]}}",
            RULE,
            "it asks for 82 passes, over 64",
        ),
    ],
    ids=["pattern", "exclusion", "long patterns", "input", "nested inputs", "sizes", "passes"],
)  # fmt: skip
def test_recipe_that_asks_for_too_much_is_refused(inputs: str, rules: str, wrong: str) -> None:
    with pytest.raises(CheckpointError, match=wrong) as refusal:
        embedded_recipe(f"{{version: 1, {inputs}, {rules}}}", "net.pt")

    assert refusal.value.where == "net.pt"
    assert refusal.value.code == 3


def test_damaged_recipe_is_an_error_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"net\.pt:recipe:1:1"):
        embedded_recipe("[]", "net.pt")


def test_text_that_is_no_recipe_has_no_inputs() -> None:
    assert embedded_inputs("{version: 7}", "net.pt") == ()
    assert len(embedded_inputs(f"{{version: 1, {INPUT}, {RULE}}}", "net.pt")) == 1

"""The keys of a rule that say how new weights begin."""

import inspect

import pytest
from pydantic import ValidationError
from torch import nn

from modswap.core.asked.rules.starts import INITIALISERS, Init
from modswap.core.errors import RecipeError
from modswap.io.recipe.reader import parse_recipe


def read(keys: str) -> None:
    parse_recipe(f"version: 1\nreplace:\n- {{match: a, with: ECA, {keys}}}\n", "r.yaml", ".")


@pytest.mark.parametrize(
    "keys",
    [
        "start: inherit",
        "start: donor, donor: {file: a.pt}",
        "start: donor, donor: {file: a.pt, path: b.c, partial: true}",
        "init: {weight: trunc_normal, std: 0.02, bias: zeros}",
        "init: {weight: xavier_uniform, bias: normal, std: 1}",
        "start: inherit, init: {weight: uniform, a: -1, b: 1}",
    ],
)
def test_start_is_read(keys: str) -> None:
    read(keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("start: inherits", "did you mean 'inherit'"),
        ("start: donor", "`donor` is given where `start` is donor"),
        ("donor: {file: a.pt}", "`start` is donor where `donor` is given"),
        ("start: donor, donor: {path: a}", "'donor' needs 'file'"),
        ("start: donor, donor: {file: ''}", "`file` names a checkpoint"),
        (
            "start: donor, donor: {file: a, part: true}",
            "unknown key 'part'; did you mean 'path' or",
        ),
        ("init: {weight: kaiming}", "did you mean 'kaiming_normal' or 'kaiming_uniform'"),
        ("init: {std: 1}", "`weight` or `bias` names an initialiser"),
        ("init: {weight: zeros, std: 1}", "`std` is left out: zeros takes no option"),
        ("init: {weight: normal, gain: 1}", "`gain` is left out: normal takes mean, std"),
        ("init: {weight: constant}", "`val` is given as well"),
        ("init: {weight: sparse}", "`sparsity` is given as well"),
        ("init: {weight: uniform, a: 1, b: 1}", "a is below b"),
        ("init: {weight: normal, std: -1}", "'std' is -1, expected a number above 0"),
        ("init: {weight: normal, sdt: 1}", "unknown key 'sdt'; did you mean 'std'"),
    ],
)
def test_wrong_start_is_refused(keys: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read(keys)

    assert message in str(raised.value)


@pytest.mark.parametrize("name", INITIALISERS)
def test_options_are_those_of_torch(name: str) -> None:
    known = list(inspect.signature(getattr(nn.init, f"{name}_")).parameters)

    assert tuple(one for one in known if one not in {"tensor", "generator"}) == INITIALISERS[name]


def test_initialiser_gets_its_own_options_only() -> None:
    init = Init(weight="kaiming_normal", bias="normal", mode="fan_out", std=0.1)

    assert init.arguments("kaiming_normal") == {"mode": "fan_out"}
    assert init.arguments("normal") == {"std": 0.1}


def test_init_of_a_recipe_made_in_python_is_checked_as_well() -> None:
    with pytest.raises(ValidationError):
        Init(weight="eye", std=1.0)

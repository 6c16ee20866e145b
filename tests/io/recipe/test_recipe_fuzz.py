"""Any text is read as a recipe, or refused with a place and a fix."""

import json
import re
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modswap.core.asked.recipe import Recipe
from modswap.core.errors import RecipeError
from modswap.io.recipe.reader import parse_recipe, write_recipe
from tests.effort import examples

VALID: dict[str, Any] = {
    "version": 1,
    "checkpoint": "net.pt",
    "allow": ["mynets.*"],
    "seed": 7,
    "model": {"factory": "nets.py:build", "args": {"classes": 2}},
    "inputs": [
        {"shape": [1, 3, 8, 8]},
        {"shape": [1, 8], "dtype": "int64", "fill": {"integers": [0, 99]}},
        {"args": [{"shape": [2, 3]}, 4], "kwargs": {"flag": True, "more": [{"shape": [1]}]}},
    ],
    "replace": [
        {
            "match": ["**.{a,b}_attention", "a"],
            "exclude": "b",
            "class": "Sequential",
            "where": {"channels": ">=128", "height": 7},
            "expect": 2,
            "with": "SEBlock",
            "args": {"num_heads": 8, "n_win": "auto", "eps": 1.5},
            "adapt": True,
            "layout": "NCHW",
        }
    ],
    "verify": {"modes": ["eval", "train"], "dtypes": ["bfloat16"], "sizes": [[6, 8]]},
}
# a scalar that begins so is written into the YAML unchanged behind it
RAW = "@raw "
ODD_YAML = [
    *("~", "1e-6", ".inf", "-.nan", "2020-01-01", "0x1f", "1:30", "0o7", "1_0", "on", "="),
    *("!!int ''", "!!int x", "!!bool x", "!!float ''", "!!float 1e999", "!!null x"),
    *("!!timestamp x", "!!binary x", "!!set {a}", "!!omap [a: 1]", "!!map x", "!!seq {}"),
    *("!!python/name:os.system x", "!x y", "! 3", "&a [*a]", "&b {c: *b}", "{<<: {a: 1}}"),
    *("{1: 2}", "{~: 2}", "{2020-01-01: 2}", "{[a]: 2}", "{? {a: 1} : 2}", "{a: 1, a: 2}"),
    *(r'"\ud800"', r'"\0"', r'"\UFFFFFFFF"', r'"\x80"', r'{"\ud800": 1}', "*none"),
    *("{<tensor>: {<tensor>: 1}}", "{TensorInput: {shape: [1]}}", "{shape: 1}"),
    *("{integers: {}}"),
]
LONG = ["9" * 5000, "0x" + "f" * 5000, "1." + "0" * 5000, "1" + ":59" * 3000, "x" * 5000, "(" * 999]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["auto", "normal", "re:(", "re:a", "{a", "a..b", ">=3", "1e6", "a:b", ":", ""]
    )
    | st.sampled_from([*ODD_YAML, *LONG]).map(RAW.__add__)
)
KEYS = "version match with with_ class_ args kwargs shape fill dtype integers where str int []"
keys = st.sampled_from([*KEYS.split(), "<tensor>", "<call>", "<integers>", "<word>"])
keys |= st.text(max_size=4)
odd = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of everything in plain data, itself first."""
    found = [at]
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*at, key))
    return found


@st.composite
def odd_recipes(draw: st.DrawFn) -> str:
    data: Any = json.loads(json.dumps(VALID))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(data)[1:]))
        holder = data
        for key in above:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "replace", "add", "drop"])):
            case "add" if isinstance(holder, dict):
                holder[draw(keys)] = draw(odd)
            case "drop":
                del holder[last]
            case _:
                holder[last] = draw(odd)
        if not data:
            break
    return flow(data)


def flow(value: Any) -> str:
    """Return plain data in YAML's flow style; what is marked as raw is left unchanged."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str) and value.startswith(RAW):
        return value.removeprefix(RAW)
    if isinstance(value, str):
        return json.dumps(value)
    return str(yaml.safe_dump(value)).partition("\n")[0]


def read(text: str) -> Recipe | None:
    """Return the recipe, or nothing if it is refused with places and fixes."""
    try:
        recipe = parse_recipe(text, "r.yaml", ".")
    except RecipeError as refused:
        recipe = None
        for error in refused.all:
            assert re.fullmatch(r"r\.yaml:[1-9]\d*:[1-9]\d*", error.where), error.line()
            assert error.fix
            assert len(error.line()) < 6000
    return recipe


def test_recipe_that_the_fuzz_starts_from_is_read() -> None:
    assert read(flow(VALID)) is not None


@settings(max_examples=examples(50), deadline=None)
@given(odd_recipes())
def test_odd_recipe_is_read_or_refused_with_places_and_fixes(text: str) -> None:
    check(text)


@pytest.mark.slow
@settings(max_examples=examples(500), deadline=None)
@given(odd_recipes())
def test_many_odd_recipes_are_read_or_refused(text: str) -> None:
    check(text)


def check(text: str) -> None:
    recipe = read(text)

    if recipe is not None and ".nan" not in text:
        again = parse_recipe(write_recipe(recipe), "r.yaml", ".")
        assert again.model_dump() == recipe.model_dump()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("raw", [*ODD_YAML, *LONG], ids=lambda raw: raw[:20])
def test_odd_yaml_at_any_place_is_read_or_refused(raw: str) -> None:
    for *above, last in places(VALID)[1:]:
        if last in {1, 2, 3}:
            continue  # as the first of its list
        part = {key: VALID[key] for key in ("version", "replace", *above[:1])}
        data = json.loads(json.dumps(part))
        holder = data
        for key in above:
            holder = holder[key]
        holder[last] = RAW + raw

        read(flow(data))


@settings(max_examples=examples(100), deadline=None)
@given(st.text("abv:1 -?&*!|>'\"[]{},#%@`\n\t\\\0\ud800", max_size=60))
def test_scraps_of_yaml_are_read_or_refused(text: str) -> None:
    read(text)


LONG_TEXTS = [
    "x:\n" + "- " * 25_000,
    "{" * 25_000,
    "? " * 25_000,
    "&a " * 20_000,
    "a: " * 20_000,
    "#\n" * 25_000,
    f"a: '{'a' * 50_000}",
    f"a: *{'a' * 50_000}",
    f"a: !{'a' * 50_000} x",
    f"? {'a' * 50_000}\n: 1",
    f"? {'1' * 50_000}\n: 1",
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("text", LONG_TEXTS, ids=lambda text: text[:5])
def test_long_text_is_refused_after_steps_in_proportion_to_its_length(text: str) -> None:
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        recipe = read(text)
    finally:
        sys.setprofile(before)

    assert recipe is None
    assert steps < 150 * len(text)

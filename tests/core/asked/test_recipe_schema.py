"""The JSON Schema and the check behind the reader: they accept and refuse the same recipes."""

import json
import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modswap.core.asked.import_name import factory_call
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.schema import recipe_schema
from modswap.core.errors import RecipeError
from modswap.ops.examine.table import examination_names
from tests.effort import examples

SCHEMA = recipe_schema(examination_names())
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
VALID: dict[str, Any] = {
    "version": 1,
    "checkpoint": "net.pt",
    "allow": ["mynets.*"],
    "seed": 7,
    "model": {"factory": "nets.py:build", "args": {"classes": 2}},
    "inputs": [
        {"shape": [1, 8], "dtype": "int64", "fill": {"integers": [0, 99]}},
        {"shape": [1], "fill": "zeros"},
        {"args": [4], "kwargs": {"flag": True}},
    ],
    "replace": [
        {"match": ["a", "b"], "exclude": "b", "class": "C", "with": "SEBlock", "args": {"n": 8}},
        {"match": "a", "where": {"channels": ">=128", "height": 7}, "expect": 2, "with": "X"},
        {"match": "a", "with": "X", "adapt": True, "layout": "NLC", "prefix": "p"},
        {
            "match": "a",
            "with": "X",
            "start": "donor",
            "donor": {"file": "b.pt", "path": "c", "partial": True},
            "init": {"weight": "trunc_normal", "std": 0.02, "bias": "zeros"},
        },
    ],
    "insert": [
        {"after": "a", "with": "X", "output": 0, "name": "n", "class": "C", "expect": 2},
        {"before": ["a", "b"], "with": "X", "input": ["x", 1], "start": "fresh"},
        {"around": "a", "with": "X", "args": {"n": 8}, "grid": [2, 3], "donor": {"file": "b.pt"}},
    ],
    "verify": {
        "modes": ["eval"],
        "dtypes": ["bfloat16"],
        "sizes": [[6, 8]],
        "batches": [1, 4],
        "precisions": ["autocast"],
        "formats": ["contiguous"],
        "skip": ["sizes"],
        "export": ["onnx"],
        "limits": {"max_params": 9, "max_memory": "8GiB", "min_kept": 0.5, "max_drift": 0},
    },
}
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 1.0, 2.5, 10**18),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1),
    *("", "1", "auto", "zeros", "fresh", "float32", "train", "x" * 2001, "x" * 4097),
    *("a:b", "a:", ":b", "a::b", "a\0:b", ">=1", "1..2", "=1", "== 4 "),
    *([], [1], ["a"], [[]], [1, 2, 3], [1, "a"], [2, 1]),
    *({}, {"a": 1}, {"width": 1}, {"with_": "b"}, {"factory": "a:b"}, {"factory": "a:"}),
    *({"shape": [1]}, {"args": []}, {"integers": [1, 2]}, {"integers": [2, 1]}),
    *({"match": "a", "with": "b"}, {"match": [], "with": "b"}),
]
KEYS = [
    "with_",
    "class_",
    "start",
    "wants",
    "share",
    "prefix",
    "where",
    "args",
    "shape",
    "fill",
    "x",
]


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a value fits a schema, by the words that the recipe's schema uses."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    return (
        ("anyOf" not in schema or any(fits(value, one) for one in schema["anyOf"]))
        and ("oneOf" not in schema or sum(fits(value, one) for one in schema["oneOf"]) == 1)
        and ("type" not in schema or type(value) in TYPES[schema["type"]])
        and value == schema.get("const", value)
        and value in schema.get("enum", [value])
        and (type(value) is not dict or fits_object(value, schema))
        and (type(value) is not list or fits_array(value, schema))
        and (type(value) is not str or fits_text(value, schema))
        and (type(value) not in (int, float) or fits_number(value, schema))
    )


def fits_text(value: str, schema: dict[str, Any]) -> bool:
    short = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    return short and re.search(schema.get("pattern", ""), value) is not None


def fits_number(value: float, schema: dict[str, Any]) -> bool:
    return bool(
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", value - 1) < value
        and value < schema.get("exclusiveMaximum", value + 1)
    )


def fits_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    if not set(schema.get("required", ())) <= value.keys():
        return False
    if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
        return False
    return all(fits(item, known.get(key, {})) for key, item in value.items())


def fits_array(value: list[Any], schema: dict[str, Any]) -> bool:
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        return False
    items = schema.get("prefixItems", [schema.get("items", {})] * len(value))
    return all(fits(item, kind) for item, kind in zip(value, items, strict=True))


def is_read(data: Any) -> bool:
    """Return whether data are a recipe, the order of `low` and `high` aside."""
    try:
        context = {"examinations": examination_names()}
        model = Recipe.model_validate(data, context=context).model
        if model is not None:
            factory_call(model.factory, "", RecipeError)
    except RecipeError:
        return False
    except ValidationError as error:
        return {detail["type"] for detail in error.errors()} == {"value_error"}
    return True


def words(schema: Any) -> set[str]:
    """Return every word of a schema that restricts something."""
    found = set(schema) if isinstance(schema, dict) else set()
    if isinstance(schema, dict):
        inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        skipped = {"properties", "$defs", "default"}
        inner += [item for key, item in schema.items() if key not in skipped]
        return found.union(*map(words, inner))
    return found.union(*map(words, schema)) if isinstance(schema, list) else found


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every value in plain data, the root first."""
    found = [at]
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*at, key))
    return found


def changed(place: tuple[Any, ...], value: Any) -> Any:
    data = json.loads(json.dumps(VALID))
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return data


def test_check_of_these_tests_knows_every_word_of_the_schema() -> None:
    assert words(SCHEMA) == {
        "$schema", "$defs", "$ref", "title", "description", "default", "type", "const", "enum",
        "anyOf", "oneOf", "properties", "required", "additionalProperties", "items", "prefixItems",
        "minItems", "maxItems", "minLength", "maxLength", "pattern", "minimum", "exclusiveMinimum",
        "exclusiveMaximum", "maximum",
    }  # fmt: skip


def test_valid_recipe_fits_the_schema() -> None:
    assert is_read(VALID)
    assert fits(VALID, SCHEMA)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("place", places(VALID)[1:], ids=lambda place: ".".join(map(str, place)))
def test_odd_value_fits_the_schema_just_if_it_is_read(place: tuple[Any, ...]) -> None:
    judged = [(value, fits(changed(place, value), SCHEMA)) for value in ODD]

    assert judged == [(value, is_read(changed(place, value))) for value in ODD]


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_odd_recipe_fits_the_schema_just_if_it_is_read(data: st.DataObject) -> None:
    recipe = json.loads(json.dumps(VALID))
    scalars = st.sampled_from(ODD).map(deepcopy)  # a value may be changed by the second draw
    values = scalars | st.lists(scalars, max_size=2)
    values |= st.dictionaries(st.sampled_from(KEYS), scalars, max_size=2)
    for _ in range(data.draw(st.integers(1, 2))):
        holder = recipe
        for key in data.draw(st.sampled_from(places(recipe))):
            holder = holder[key]
        if isinstance(holder, dict):
            holder[data.draw(st.sampled_from([*KEYS, *holder]))] = data.draw(values)

    assert fits(recipe, SCHEMA) is is_read(recipe)


@pytest.mark.parametrize(
    "text",
    [
        *("a:b", "a.py:b", "a:", ":b", "a::b", "a:b:c", "a\nb:c", "ab", ""),
        *("a:b()", "a:b(x=1)", "a:b('c:d')", "a:b(", "ab(1)", ":b(1)"),
    ],
)
def test_factory_fits_the_schema_just_if_it_names_where_and_what(text: str) -> None:
    data = changed(("model", "factory"), text)

    assert fits(data, SCHEMA) is is_read(data)

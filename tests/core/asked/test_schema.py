"""The JSON Schema and the page: both from the one declaration."""

from modswap.core.asked.schema import recipe_schema
from modswap.ops.examine.table import examination_names
from tests.core.asked.recipe_page import PAGE, PARTS, recipe_page


def test_page_in_docs_is_the_one_that_the_program_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == recipe_page(examination_names()), "`make docs` writes it again"


def test_page_has_a_section_for_every_part_of_a_recipe() -> None:
    parts = recipe_schema(examination_names())["$defs"].keys()

    assert {name for _, _, name in PARTS} == {"Recipe", *parts} - {"Integers"}  # a kind of `fill`


def test_schema_names_the_keys_as_users_write_them() -> None:
    schema = recipe_schema(examination_names())
    rule = schema["$defs"]["Rule"]

    assert {"match", "with", "class", "where"} <= rule["properties"].keys()
    assert rule["additionalProperties"] is False
    assert rule["required"] == ["match", "with"]
    assert schema["$schema"].endswith("2020-12/schema")


def test_schema_takes_one_pattern_or_several() -> None:
    match = recipe_schema(examination_names())["$defs"]["Rule"]["properties"]["match"]

    assert {kind["type"] for kind in match["anyOf"]} == {"string", "array"}

"""The recipe's JSON Schema, from its declaration."""

from collections.abc import Sequence
from typing import Any

from modswap.core.asked.recipe import Recipe


def recipe_schema(examinations: Sequence[str]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a recipe; `verify.skip` takes the examinations."""
    schema = Recipe.model_json_schema(by_alias=True)
    skip = schema["$defs"]["Verify"]["properties"]["skip"]
    skip["items"] = {"type": "string", "enum": list(examinations)}
    schema["anyOf"] = [{"required": [key]} for key in ("replace", "insert")]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "modswap recipe"
    return schema

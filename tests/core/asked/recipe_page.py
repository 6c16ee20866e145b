"""The recipe's reference page, `docs/recipe.md`, from its JSON Schema; `make docs` writes it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modswap.core.asked.schema import recipe_schema
from modswap.ops.examine.table import examination_names

PAGE = Path(__file__).parents[3] / "docs" / "recipe.md"

PARTS: tuple[tuple[str, str, str], ...] = (
    ("The recipe", "at the top", "Recipe"),
    ("`model`", "how to build the model, for files that hold weights without code", "ModelSource"),
    ("An entry of `inputs`: one tensor", "the dummy forward pass", "TensorInput"),
    ("An entry of `inputs`: a call", "for models that take several arguments", "CallInput"),
    ("An entry of `replace`", "a rule", "Rule"),
    ("An entry of `insert`", "a rule that puts a module in beside others", "Insert"),
    (
        "`where` of a rule",
        "each a number, `>=128`, `<=64`, `!=1` or a range `64..256`",
        "Conditions",
    ),
    ("`donor` of a rule", "a module in another checkpoint", "Donor"),
    ("`init` of a rule", "initialisers of `torch.nn.init`, and their options", "Init"),
    ("`verify`", "which passes and examinations prove that the swap holds", "Verify"),
    ("`limits` of `verify`", "beyond one of them the check fails", "Limits"),
)

INTRODUCTION = """\
# The recipe

A recipe says which modules of a checkpoint are replaced, by name pattern, and by what, and what is
put in beside others ([insertion.md](insertion.md)). Printed from the program's own declaration;
`modswap schema` prints the same as JSON Schema for editors.

```yaml
version: 1
inputs:
  - {shape: [1, 3, 224, 224]}
replace:
  - match: "**.{space,channel}_attention"
    expect: 2
    with: BiLevelRoutingAttention
    args: {num_heads: 8, n_win: 7, topk: 4, auto_pad: true}
insert:
  - after: stem
    with: CBAM
```

Unknown keys, repeated keys and wrong types are refused, all at once, each with file, line and
column.

## Patterns

A pattern runs over the whole dotted path of a module.

| pattern | selects |
| --- | --- |
| `layer1.0.attn` | that path, and not `layer1.0.attn.proj` or `layer1.0.attn2` |
| `blocks.*.attn` | `blocks.3.attn`; `*` is part or all of one segment and never crosses a dot |
| `blocks.?.attn` | `blocks.3.attn`, not `blocks.10.attn`; `?` is one character |
| `blocks.[0-3].attn` | one character of several |
| `**.attn` | `attn`, `a.attn`, `a.b.attn`; `**` is any number of segments, none included |
| `{encoder,decoder}.gate` | either |
| `re:blocks\\.(1|3)\\.attn` | what the regular expression matches as a whole |

A module with several paths is selected by any of them, and gets the new module under all of them.
"""


def recipe_page(examinations: Sequence[str]) -> str:
    """Return the reference page of the recipe in Markdown; `verify.skip` takes the examinations."""
    schema = recipe_schema(examinations)
    lines = [INTRODUCTION.rstrip()]
    for title, meaning, name in PARTS:
        lines += ["", f"## {title}", "", f"{meaning[:1].upper()}{meaning[1:]}.", ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += _rows(schema if name == "Recipe" else schema["$defs"][name])
    return "\n".join(lines) + "\n"


def _rows(schema: dict[str, Any]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for key, field in schema["properties"].items():
        default = "required" if key in required else _default(field)
        yield f"| `{key}` | {_type(field)} | {default} | {field.get('description', '')} |"


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value in ([], {}) or isinstance(value, dict):
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _type(field: dict[str, Any]) -> str:
    kinds = field.get("anyOf", field.get("oneOf"))
    if kinds:
        kinds = [_type(kind) for kind in kinds if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in field:
        return f"`{field['$ref'].rpartition('/')[2]}`"
    for key in ("enum", "const"):
        if key in field:
            values = field[key] if isinstance(field[key], list) else [field[key]]
            return ", ".join(f"`{value}`" for value in values)
    kind = {"integer": "whole number", "string": "text", "boolean": "true or false"}
    if field.get("type") == "array":
        inner = _type(field["items"]) if field.get("items") else "value"
        return f"list of {inner}" if inner != "value" else "list"
    name = str(field.get("type", "any"))
    return kind.get(name, "mapping" if name == "object" else name)


if __name__ == "__main__":
    PAGE.write_text(recipe_page(examination_names()), encoding="utf-8")

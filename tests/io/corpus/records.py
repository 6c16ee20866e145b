"""Files whose recipe or receipt, left by an earlier swap, is damaged or hostile."""

import json
from collections.abc import Mapping
from typing import Any

from tests.io.corpus.case import Case
from tests.io.corpus.raw import Entry, entries_of, item, pickled, pushed, records_of, zipped
from tests.io.corpus.recipes import LAUGHS, MERGES
from tests.io.corpus.safetensors_files import headed

RECIPE, RECEIPT = "net/modswap/recipe.yaml", "net/modswap/receipt.json"
TREE = {"tree": 0}
SITE = {"paths": ["gate"], "module": "SEBlock", "args": {"channel": 8}}


def recorded(name: str, data: bytes | str, **fields: Any) -> bytes:
    """Return a sound file of weights with a record in it."""
    content = data if isinstance(data, bytes) else data.encode()
    return zipped([*entries_of(records_of("weights")), Entry(name, content, **fields)])


def receipt(**site: Any) -> str:
    """Return the receipt of one site."""
    return json.dumps({"modswap": "0.1.0", "torch": "2.13", "sites": [{**SITE, **site}]})


def recipe(with_: str, **rule: Any) -> str:
    """Return a recipe with one rule."""
    rules = [{"match": "gate", "with": with_, **rule}]
    return json.dumps({"version": 1, "inputs": [{"shape": [1, 3, 8, 8]}], "replace": rules})


def one(name: str, data: bytes | str, says: str, code: int = 3, **codes: int) -> Case:
    """Return the case of a receipt inside a zip."""
    return Case(f"receipt {name}", recorded(RECEIPT, data), says, code, {**TREE, **codes})


def _own(value: Mapping[str, Any]) -> bytes:
    return pickled(item(pushed(dict(value)), "modswap"))


UNFIT = "the receipt inside cannot be carried out"
SOUND = "version: 1\nreplace: [{match: gate, with: SEBlock}]\n"
RAN = "import os; os.system('touch canary')"
CASES = (
    one("that is no JSON", "{", "the receipt inside is damaged"),
    one("that is no UTF-8", b"\xff\xfe{", "the receipt inside is damaged"),
    one("that is a list", "[]", "the receipt inside is damaged"),
    one("nested too deep", "[" * 100_000, "the receipt inside is damaged"),
    one(
        "without sites that are sites",
        '{"modswap": "1", "torch": "2", "sites": [1]}',
        "the receipt inside is damaged at 'sites.0'",
    ),
    one("that imports", receipt(module="os:system"), "may not import by itself", 4),
    one("that imports a file", receipt(module="canary.py:build"), "may not import by itself", 4),
    one(
        "that imports a class that is here",
        receipt(module="tests.models:Keep"),
        "allow it if you trust that code: ",
        4,
    ),
    one("of a module that nobody knows", receipt(module="NoSuchBlock"), UNFIT),
    one("with a path that is not there", receipt(paths=["nowhere"]), "error", 2),
    one("with a path of nothing", receipt(paths=[""]), "error", 2),
    one("with a path of dots", receipt(paths=["..", "gate..x"]), "error", 2),
    one("with a path that is no module", receipt(paths=["forward.__globals__"]), "error", 2),
    one("without paths", receipt(paths=[]), "damaged at 'sites.0.paths'"),
    one("with arguments that do not fit", receipt(args={"nonsense": 1}), UNFIT),
    one("with arguments of the wrong kind", receipt(args={"channel": "eight"}), UNFIT),
    one("with a module of 10 GB", receipt(args={"channel": 1_000_000_000}), UNFIT),
    one("with a module of no size", receipt(args={"channel": -8}), UNFIT),
    one(
        "with an adapter of 10 GB",
        receipt(adaptation={"in_channels": 8, "out_channels": 1 << 40}),
        UNFIT,
    ),
    one("with a layout that is none", receipt(layout="XYZ"), "damaged at 'sites.0.layout'"),
    one("of 3 MB", receipt(module="x" * 3_000_000), UNFIT),
    one(
        "of 20,000 sites",
        json.dumps({"modswap": "1", "torch": "2", "sites": [SITE] * 20_000}),
        UNFIT,
    ),
    Case(
        "receipt with a wrong checksum",
        recorded(RECEIPT, receipt(), crc=7),
        "it is damaged",
        3,
        {"tree": 0},
    ),
    Case(
        "receipt in a dictionary that is damaged",
        _own({"receipt": "{", "recipe": ""}),
        "the receipt inside is damaged",
        3,
        TREE,
    ),
    Case(
        "receipt in a dictionary that imports",
        _own({"receipt": receipt(module="os:system")}),
        "may not import by itself",
        4,
        TREE,
    ),
    Case("receipt in a dictionary that is a list", _own({"receipt": [1], "recipe": 7}), "", 0),
    Case(
        "receipt in the header that is damaged",
        headed(__metadata__={"modswap.receipt": "{"}),
        "the receipt inside is damaged",
        3,
        TREE,
    ),
    Case(
        "receipt in the header that imports",
        headed(__metadata__={"modswap.receipt": receipt(module="os:system")}),
        "may not import by itself",
        4,
        TREE,
    ),
    *(
        Case(f"recipe inside {name}", recorded(RECIPE, text), says, code, TREE)
        for name, text, says, code in (
            ("that is no YAML", "a: [", "it is not YAML", 2),
            ("that is no UTF-8", b"\xff\xfe", "error", 2),
            ("that imports", recipe("os:system"), "may not import by itself", 4),
            ("that imports a file", recipe("canary.py:Net"), "may not import by itself", 4),
            ("that imports Python", recipe(f"{RAN}:x"), "error", 4),
            ("that laughs", "a: &a [x, x]\nb: &b [*a, *a]\nversion: [*b, *b]\n", "error", 2),
            ("that laughs ten times", LAUGHS + SOUND, "error", 2),
            ("that merges", MERGES + SOUND, "error", 2),
            ("nested too deep", "[" * 100_000, "error", 2),
            ("with a long key", f"{'k' * 100_000}: 1\n{SOUND}", "error", 2),
            ("with a huge number", f"seed: 0x{'f' * 50_000}\n{SOUND}", "error", 2),
            ("with a number of 20,000 digits", f"seed: {'9' * 20_000}\n{SOUND}", "error", 2),
            ("of 1 MB", f"# {'x' * 1_000_000}\n{SOUND}", "error", 2),
            ("with aliases in inputs", f"{LAUGHS}inputs: [*a9]\nversion: 1\n", "error", 2),
            (
                "that names a donor",
                recipe("SEBlock", start={"donor": {"file": "/etc/passwd", "path": "x"}}),
                "error",
                2,
            ),
            ("that matches nothing", recipe("SEBlock", match="nowhere"), "no module matches", 2),
        )
    ),
)

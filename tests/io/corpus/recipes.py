"""Recipes that no reader may trip over, beside a sound checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path

from tests.io.corpus.case import RECIPE, Case
from tests.io.corpus.raw import torch_zip

HEAD = "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
RULE = "replace: [{match: gate, with: SEBlock}]\n"
LINE = f"error: {RECIPE}:"


def bad(name: str, content: str | bytes, says: str = LINE, code: int = 2) -> Case:
    """Return the case of a recipe."""

    def make(folder: Path) -> None:
        (folder / "net.pt").write_bytes(torch_zip())
        data = content if isinstance(content, bytes) else content.encode()
        (folder / RECIPE).write_bytes(data)

    return Case(f"recipe {name}", make, says, code, commands=("check", "replace"))


def place(name: str, change: Callable[[Path], object], says: str) -> Case:
    """Return the case of a file in place of the recipe."""

    def make(folder: Path) -> None:
        (folder / "net.pt").write_bytes(torch_zip())
        (folder / RECIPE).unlink()
        change(folder / RECIPE)

    return Case(f"recipe {name}", make, says, 3, commands=("check", "replace"))


def rule(text: str) -> str:
    """Return a recipe of one rule."""
    return f"{HEAD}replace: [{{{text}}}]\n"


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGES = "m0: &m0 {a: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)
RUNS = "import os; os.system('touch canary')"

CASES = (
    bad("that is empty", "", "it is empty"),
    bad("of comments", "# nothing\n", "it is empty"),
    bad("that is a text", "hello", "expected a mapping"),
    bad("that is a list", "[1, 2]", "expected a mapping"),
    bad("that is a number", "7", "expected a mapping"),
    bad("of several documents", f"{HEAD}{RULE}---\n{HEAD}{RULE}", "a second document begins"),
    bad("with a tab", f"{HEAD}replace:\n\t- match: gate\n", "a tab where YAML takes spaces"),
    bad("with a zero byte", f"{HEAD}\0{RULE}", "a character that YAML does not allow"),
    bad("with a bell", f"{HEAD}# \a\n{RULE}", "a character that YAML does not allow"),
    bad("that is no UTF-8", HEAD.encode() + b"# \xff\xfe\n", "error"),
    bad("in UTF-16", f"{HEAD}{RULE}".encode("utf-16"), "error"),
    bad("that is a checkpoint", torch_zip(), "error"),
    bad("of a million spaces", " " * 1_000_000, "is this the recipe?"),
    bad("that laughs", LAUGHS + HEAD + RULE, "its aliases repeat too much"),
    bad("that merges", MERGES + HEAD + RULE, LINE),
    bad("with an alias to itself", f"a: &a [*a]\n{HEAD}{RULE}", "its aliases repeat too much"),
    bad("with an alias to nothing", f"a: *b\n{HEAD}{RULE}", "it is not YAML"),
    bad("nested too deep", "[" * 5_000, "levels deep"),
    bad("of mappings nested too deep", "{a: " * 5_000, "levels deep"),
    bad("indented too deep", "".join(f"{' ' * n}a:\n" for n in range(600)), "levels deep"),
    bad("of 100,000 values", f"a: [{'1,' * 100_000}]", "over 20,000 values"),
    bad("with a number of 10,000 digits", f"seed: {'9' * 10_000}\n{HEAD}{RULE}", "too large"),
    bad("with a number of 2**64", f"seed: {1 << 64}\n{HEAD}{RULE}", LINE),
    bad("with a base of sixty", f"seed: 1{':59' * 3000}\n{HEAD}{RULE}", LINE),
    bad("with a number in hexadecimal", f"seed: 0x{'f' * 50_000}\n{HEAD}{RULE}", "error"),
    bad("with a number in binary", f"seed: 0b{'1' * 100_000}\n{HEAD}{RULE}", "error"),
    bad("with a real number of 50,000 digits", f"seed: 0.{'9' * 50_000}\n{HEAD}{RULE}", "error"),
    bad("with a key of 100,000 characters", f"{'k' * 100_000}: 1\n{HEAD}{RULE}", "error"),
    bad("with a key that laughs", f"{LAUGHS}? *a9\n: 1\n{HEAD}{RULE}", "error"),
    bad("with keys in keys", f"{'? ' * 3_000}a\n", "error"),
    bad("with 5,000 anchors", "".join(f"a{n}: &a{n} 1\n" for n in range(5_000)) + RULE, "error"),
    bad("that merges itself", f"a: &a {{<<: *a}}\n{HEAD}{RULE}", "error"),
    bad("that merges a number", f"a: {{<<: 1}}\n{HEAD}{RULE}", LINE),
    bad("of aliases in an input", f"{LAUGHS}inputs: [*a9]\n{HEAD}{RULE}", "error"),
    bad("with a set", f"a: !!set {{a, b}}\n{HEAD}{RULE}", "error"),
    bad("with bytes", f"a: !!binary {'QUFB' * 20_000}\n{HEAD}{RULE}", "error"),
    bad("of 200,000 brackets", f"a: {'[' * 100_000}{']' * 100_000}\n", "levels deep"),
    bad("with a key twice", f"{HEAD}{HEAD}{RULE}", "the key 'version' is repeated"),
    bad("with an unknown key", f"{HEAD}replaces: []\n{RULE}", "replaces"),
    bad("with a key that is a list", f"{HEAD}? [a]\n: 1\n{RULE}", "is not text"),
    bad("with a key that is nothing", f"{HEAD}~: 1\n{RULE}", "is not text"),
    bad(
        "that calls Python",
        f"{HEAD}x: !!python/object/apply:os.system ['touch canary']\n{RULE}",
        "is not read",
    ),
    bad("that names Python", f"{HEAD}x: !!python/name:os.system\n{RULE}", "is not read"),
    bad("with a tag", f"!recipe\n{HEAD}{RULE}", LINE),
    bad("with a date", f"seed: 2020-01-01\n{HEAD}{RULE}", LINE),
    bad("with half a character", f'{HEAD}x: "\\ud800"\n{RULE}', LINE),
    bad("of version 99", RULE + HEAD.replace("1", "99", 1), LINE),
    bad("of no version", RULE, LINE),
    bad("without rules", HEAD, LINE),
    bad("with a pattern that hangs", rule("match: 're:(a+)+$', with: SEBlock"), "error"),
    bad("with a pattern that grows", rule(f"match: '{'{a,b}' * 40}', with: SEBlock"), LINE),
    bad(
        "with a pattern of 100,000 characters", rule(f"match: {'a' * 100_000}, with: SEBlock"), LINE
    ),
    bad("with a pattern that is none", rule("match: 're:(', with: SEBlock"), LINE),
    bad("with a module that is none", rule("match: gate, with: SEBlok"), "SEBlock"),
    bad("with a class that is not here", rule("match: gate, with: 'nowhere:Net'"), "nowhere"),
    bad("with a class of no module", rule(f'match: gate, with: "{RUNS}:x"'), "error"),
    bad("with arguments that do not fit", rule("match: gate, with: SEBlock, args: {x: 1}"), LINE),
    bad(
        "with a module of 4 PB",
        rule("match: gate, with: BiLevelRoutingAttention, args: {dim: 8, qk_dim: 100000000000}"),
        "cannot be made",
    ),
    bad("that matches nothing", rule("match: nowhere, with: SEBlock"), "no module matches"),
    bad(
        "with an input of 4 PB",
        f"version: 1\ninputs: [{{shape: [1, 3, 20000000, 20000000]}}]\n{RULE}",
        "cannot be made",
    ),
    bad("with an input of no size", f"version: 1\ninputs: [{{shape: [0]}}]\n{RULE}", LINE),
    bad("with an input below nought", f"version: 1\ninputs: [{{shape: [-1, 3]}}]\n{RULE}", LINE),
    bad(
        "with an input of 1,000 axes",
        f"version: 1\ninputs: [{{shape: [{'1,' * 1000}]}}]\n{RULE}",
        "error",
    ),
    place("that is not there", lambda file: None, "no such recipe"),
    place("that is a folder", lambda file: file.mkdir(), "error"),
    place("that is a pipe", os.mkfifo, "error"),
    place("that is a device", lambda file: file.symlink_to("/dev/zero"), "error"),
    place("that is a link to itself", lambda file: file.symlink_to(file), "error"),
)

"""Recipes: what is read, and every mistake with its place.

Covers: errors, nodes.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.asked.recipe import CallInput, TensorInput
from modswap.core.errors import CheckpointError, ModswapError, RecipeError
from modswap.io.recipe.reader import parse_recipe, read_recipe, write_recipe

SMALL = "version: 1\nreplace:\n  - match: a\n    with: B\n"
FULL = """\
version: 1
checkpoint: net.pt
allow: mynets.*
seed: 7
model: {factory: "nets.py:build", args: {classes: 2}}
inputs:
  - {shape: [1, 3, 224, 224]}
  - {shape: [1, 8], dtype: int64, fill: {integers: [0, 99]}}
  - args: [{shape: [2, 3, 8, 8]}, 4]
    kwargs: {flag: true, more: [{shape: [1]}]}
replace:
  - match: ["**.{space,channel}_attention", a]
    exclude: b
    class: Sequential
    where: {channels: ">=128", height: 7}
    expect: 2
    with: BiLevelRoutingAttention
    args: {num_heads: 8, n_win: auto, qk_dim: null}
    adapt: true
    layout: NCHW
    share: true
verify:
  modes: [eval, train]
  dtypes: [bfloat16]
  sizes: [[6, 8]]
"""


def parse(text: str) -> Any:
    return parse_recipe(text, "swap.yaml", "/recipes")


def errors(text: str) -> list[str]:
    with pytest.raises(RecipeError) as raised:
        parse(text)
    return [error.line() for error in raised.value.all]


def test_full_recipe_is_read() -> None:
    recipe = parse(FULL)

    assert recipe.allow == ("mynets.*",)
    assert recipe.inputs[0] == TensorInput(shape=(1, 3, 224, 224))
    assert isinstance(recipe.inputs[2], CallInput)
    rule = recipe.replace[0]
    assert rule.match == ("**.{space,channel}_attention", "a")
    assert (rule.class_, rule.exclude, rule.expect) == (("Sequential",), ("b",), 2)
    assert rule.args == {"num_heads": 8, "n_win": "auto", "qk_dim": None}
    assert recipe.verify.sizes == ((6, 8),)
    assert recipe.source.folder == "/recipes"


def test_recipe_knows_the_place_of_every_key() -> None:
    recipe = parse(FULL)

    assert recipe.at("replace", 0, "match", 1) == "swap.yaml:12:45"
    assert recipe.at("replace", 0, "args", "n_win") == "swap.yaml:18:26"
    assert recipe.at("replace", 0, "nothing") == "swap.yaml:12:5"
    assert recipe.at("replace", 7) == "swap.yaml:11:1"


@pytest.mark.parametrize("text", [SMALL, FULL])
def test_recipe_written_reads_back_equal(text: str) -> None:
    recipe = parse(text)

    assert parse(write_recipe(recipe)).model_dump() == recipe.model_dump()


class Quoting(yaml.SafeDumper):
    """Writes every text in quotes: 0E0 without them is refused, for it looks like a number."""


Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@given(
    st.fixed_dictionaries(
        {
            "version": st.just(1),
            "seed": st.integers(0, 2**40),
            "replace": st.lists(
                st.fixed_dictionaries(
                    {"match": st.sampled_from(["a", "**.b", ["c", "d.*"]]), "with": st.just("X")},
                    optional={
                        "expect": st.integers(1, 9),
                        "share": st.booleans(),
                        "layout": st.sampled_from(["auto", "NCHW", "NLC"]),
                        "args": st.dictionaries(
                            st.text("abc", min_size=1), st.integers() | st.none() | st.text()
                        ),
                    },
                ),
                min_size=1,
                max_size=3,
            ),
        }
    )
)
def test_any_recipe_written_reads_back_equal(data: dict[str, Any]) -> None:
    recipe = parse(yaml.dump(data, Dumper=Quoting))

    assert parse(write_recipe(recipe)).model_dump() == recipe.model_dump()


WRONG = """\
version: 2
seeed: 3
inputs:
  - {shap: [1, 3, 4]}
  - {shape: [1, -3, x], fill: {integers: [3, 1]}}
  - args: [{shape: [1, 2], dtype: floaty}]
model: {factory: nocolon}
replace:
  - match: "a..b"
    matc: b
    exclude: ["{a"]
    with: on
    expect: many
    where: {channels: ">>3", heigth: 3}
    adapt: maybe
  - with: X
    match: ok
    with: Y
verify: {modes: [evil], sizes: [[1]]}
"""


def test_wrong_recipe_shows_all_of_its_mistakes_in_one_run_with_their_places() -> None:
    assert errors(WRONG) == [
        "swap.yaml:1:1: 'version' is 2, expected 1; correct it",
        "swap.yaml:2:1: unknown key 'seeed'; did you mean 'seed'?",
        "swap.yaml:4:5: item 1 of 'inputs' needs 'shape'; add `shape: …`",
        "swap.yaml:4:6: unknown key 'shap'; did you mean 'shape'?",
        "swap.yaml:5:17: item 2 of 'shape' is -3, expected a number above 0; correct it",
        "swap.yaml:5:21: item 3 of 'shape' is 'x', expected a whole number; correct it",
        (
            "swap.yaml:5:25: 'fill' is {'integers': [3, 1]}, expected that low must be below high; "
            "correct it"
        ),
        (
            "swap.yaml:6:28: 'dtype' is 'floaty', expected float32, float64, float16, "
            "bfloat16, int64, int32, int16, int8, uint8 or bool; did you mean 'float32', "
            "'float64' or 'float16'?"
        ),
        (
            "swap.yaml:7:9: 'nocolon' does not say where to find it; write package.module:name or "
            "file.py:name"
        ),
        (
            "swap.yaml:9:5: 'a..b' has an empty segment; write a path such as 'blocks.*.attn'; a "
            "regular expression begins with `re:`, as in `re:a..b`"
        ),
        "swap.yaml:10:5: unknown key 'matc'; did you mean 'match'?",
        (
            "swap.yaml:11:15: '{a' opens a brace that it does not close; write `{a,b}` for one of "
            "several"
        ),
        (
            "swap.yaml:12:5: 'with' is True, expected text; YAML reads on, off, yes and no as true "
            "and false: quote it"
        ),
        "swap.yaml:13:5: 'expect' is 'many', expected a whole number; correct it",
        (
            "swap.yaml:14:13: 'channels' is '>>3', expected a number, or a comparison such as "
            "'>=128' or '64..256'; correct it"
        ),
        "swap.yaml:14:30: unknown key 'heigth'; did you mean 'height'?",
        "swap.yaml:15:5: 'adapt' is 'maybe', expected true or false; correct it",
        ("swap.yaml:18:5: the key 'with' is repeated; it is at line 16 already; keep one of them"),
        (
            "swap.yaml:19:18: item 1 of 'modes' is 'evil', expected eval or train; did you mean "
            "'eval'?"
        ),
        "swap.yaml:19:33: item 1 of 'sizes' is [1], expected more values; correct it",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "swap.yaml:1:1: it is empty"),
        ("# nothing\n", "swap.yaml:1:1: it is empty"),
        ("- a\n", "swap.yaml:1:1: it holds a list, expected a mapping"),
        ("hello\n", "swap.yaml:1:1: it holds 'hello', expected a mapping"),
        ("version: 1\n", "swap.yaml:1:1: the recipe needs `replace` or `insert`; add"),
        ("version: 1\nreplace: []\n", "swap.yaml:2:1: 'replace' is [], expected at least 1"),
        ("version: 1\nreplace: 3\n", "swap.yaml:2:1: 'replace' is 3, expected a list"),
        ("version: 1\nreplace:\n  - 3\n", "swap.yaml:3:5: item 1 of 'replace' is 3, expected a m"),
        ("version: 1\nreplace:\n", "swap.yaml:2:1: 'replace' is empty, expected a list"),
        (SMALL + "---\nversion: 1\n", "swap.yaml:5:1: a second document begins here; keep one"),
        ("version: 1\nreplace:\n\t- a\n", "swap.yaml:3:1: a tab where YAML takes spaces"),
        ("version: [1\n", "swap.yaml:2:1: it is not YAML: while parsing a flow sequence"),
        ("a: 'b\n", "it is not YAML: while scanning a quoted scalar"),
        ("version: \x00\n", "swap.yaml:1:1: it holds a character that YAML does not allow"),
        (SMALL + "? [1]\n: 2\n", "swap.yaml:5:3: the key that begins here is not text"),
        (SMALL + "3: 2\n", "swap.yaml:5:1: the key '3' is not text; quote it"),
        (SMALL + "seed: !!python/name:os.system ''\n", "is not read; take it out"),
        (SMALL + "seed: 1e6\n", "'seed' is '1e6', expected a whole number; YAML reads it as text"),
        (SMALL + "seed: 1e6\n", "write 1.0e+6"),
        (SMALL + "seed: -1\n", "swap.yaml:5:1: 'seed' is -1, expected at least 0"),
        (SMALL + f"seed: {2**63}\n", "expected a number below 9223372036854775808"),
        (SMALL + "seed: 1.5\n", "'seed' is 1.5, expected a whole number"),
        (SMALL + f"seed: {'9' * 10_000}\n", "9… is too large a number; correct it"),
        (SMALL + "model: {<<: {a: 1}, factory: 'a:b'}\n", "merge keys (`<<`) are not read"),
        (SMALL + "inputs: [{shape: [1], fill: nromal}]\n", "did you mean 'normal'?"),
        (SMALL + "inputs: [{shape: [1], fill: {integer: [0, 1]}}]\n", "'fill' needs 'integers'"),
        (SMALL + "inputs: [{shape: [1], fill: {integers: [0]}}]\n", "'integers' is [0]"),
        (SMALL + "inputs: [{args: 3}]\n", "'args' is 3, expected a list"),
        (SMALL + "inputs: [{kwargs: {x: {shape: [0]}}}]\n", "item 1 of 'shape' is 0, expected"),
        (SMALL + "inputs: [{args: [{shape: [1], dtyp: x}]}]\n", "unknown key 'dtyp'; did you mean"),
        (SMALL + "inputs: [[1, 3]]\n", "item 1 of 'inputs' is [1, 3], expected a mapping"),
        (SMALL + "verify: {dtypes: []}\n", "'dtypes' is [], expected at least 1"),
        (SMALL + "verify: {sizes: [[1, 2, 3]]}\n", "item 1 of 'sizes' is [1, 2, 3], expected at m"),
        (SMALL + "model: {args: {}}\n", "'model' needs 'factory'"),
        (SMALL + "    start: preserv\n", "'start' is 'preserv', expected fresh"),
        (
            "version: 1\nreplace: [{match: a, with: B, where: {width: [3]}}]\n",
            "'width' is [3], expected a number, or a comparison such as '>=128'",
        ),
        ("[" * 99 + "]" * 99, "over 32 levels deep"),
        (SMALL + "inputs: [" + "1," * 30_000 + "]\n", "over 20,000 values"),
        (SMALL + "seed: !!int ''\n", "swap.yaml:5:7: '' is not a number; correct it"),
        (SMALL + "    share: !!bool x\n", "swap.yaml:5:12: 'x' is not a truth value; correct it"),
        (SMALL + f"seed: 0x{'f' * 300}\n", "fff… is too large a number; correct it"),
        (SMALL + "    args: {x: 1.0e+999}\n", "'1.0e+999' is too large a number; correct it"),
        (SMALL + "    args: !!set {x}\n", "swap.yaml:5:11: the tag 'tag:yaml.org,2002:set' is not"),
        (SMALL + "    args: !!seq x\n", "swap.yaml:5:11: the tag 'tag:yaml.org,2002:seq' is not"),
        (SMALL + 'seed: "\\UFFFFFFFF"\n', "swap.yaml:5:10: it is not YAML: a number is too large"),
        (f"%YAML 1.{'9' * 9000}\n---\n", "swap.yaml:1:9: it is not YAML: a number is too large"),
        (SMALL + 'checkpoint: "\\ud800"\n', "5:13: '\\ud800' holds half a character; take it out"),
        (SMALL + '    args: {"\\udc00": 1}\n', "5:12: '\\udc00' holds half a character; take it"),
        (SMALL + 'checkpoint: "a\\0"\n', "'a\\x00', expected text without a NUL character"),
        (
            SMALL + f"prefix: {'x' * 99_999}\n",
            "unknown key 'prefix'; `prefix` is a key of a rule or",
        ),
        (SMALL + "modes: [eval]\n", "unknown key 'modes'; `modes` is a key of verify"),
        (SMALL + f"    prefix: {'x' * 99_999}\n", "xx…, expected at most 4,096 characters"),
        (SMALL + f"? {'x' * 99_999}\n: 1\n", "unknown key 'xxx"),
        (
            SMALL + "inputs: [{args: [1], fill: {integers: [0, 1]}}]\n",
            "unknown key 'fill'; known h",
        ),
        (
            SMALL + "inputs: [{<tensor>: {<tensor>: 1}}]\n",
            "unknown key '<tensor>'; known here: sha",
        ),
        (SMALL + "#" * 300_000, "over the 262,144 that a recipe may have"),
    ],
)
def test_what_is_no_recipe_is_reported(text: str, message: str) -> None:
    assert message in "\n".join(errors(text))


def test_aliases_are_followed() -> None:
    recipe = parse(
        "version: 1\nreplace:\n"
        "  - {match: a, with: B, args: &same {x: 1}}\n  - {match: b, with: B, args: *same}\n"
    )

    assert recipe.replace[1].args == {"x": 1}


def test_very_many_mistakes_are_reported_up_to_a_hundred() -> None:
    told = errors(SMALL + "".join(f"k{number}: 1\n" for number in range(500)))

    assert len(told) == 101
    assert told[99].startswith("swap.yaml:104:1: unknown key 'k99'")
    assert told[100] == "swap.yaml:105:1: more mistakes follow; correct these first"


@pytest.mark.parametrize("place", ["replace:match", "insert:after"])
def test_patterns_that_stand_for_too_much_are_refused(place: str) -> None:
    patterns = ", ".join(["'{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}'"] * 4000)

    part, key = place.split(":")
    told = errors(f"version: 1\n{part}:\n  - with: B\n    {key}: [{patterns}]\n")

    assert told[0].endswith(
        "the patterns up to here stand for too much; write fewer braces, or use `*`"
    )


def test_alias_of_a_long_text_is_refused_when_repeated() -> None:
    bomb = f"    args: {{a: &a {'x' * 200_000}, b: [{','.join(['*a'] * 15_000)}]}}\n"

    (error,) = errors(SMALL + bomb)

    assert error.endswith("its aliases repeat too much; write it out without `*`")


def test_alias_of_itself_is_refused() -> None:
    assert "its aliases repeat too much" in errors(SMALL + "    args: {a: &a [*a]}\n")[0]


def test_billion_laughs_are_refused_at_once() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )

    assert "its aliases repeat too much" in errors(bomb)[0]


def test_other_scalars_are_read_as_yaml_has_them() -> None:
    recipe = parse(SMALL + "    args: {a: 0x10, b: 2020-01-01, c: .inf, d: ~, e: 1_000}\n")

    assert recipe.replace[0].args == {
        "a": 16, "b": "2020-01-01", "c": float("inf"), "d": None, "e": 1000,
    }  # fmt: skip


def test_file_is_read_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "swap.yaml"
    file.write_text("\ufeff" + SMALL, encoding="utf-8")

    recipe = read_recipe(file)

    assert recipe.source.folder == str(tmp_path)
    assert recipe.source.name == str(file)


def test_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(SMALL))

    assert read_recipe("-").source.name == "<stdin>"


def test_standard_input_that_is_no_text_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff"), "utf-8"))

    with pytest.raises(RecipeError, match=r"^<stdin>: it is not text: byte 2 is not UTF-8"):
        read_recipe("-")


def test_recipe_that_is_missing_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "swap.yaml").write_text(SMALL)

    with pytest.raises(CheckpointError, match=r"no such recipe; did you mean 'swap\.yaml'\?"):
        read_recipe(tmp_path / "swpa.yaml")
    with pytest.raises(CheckpointError, match=r"no such recipe; check the name; `modswap init`"):
        read_recipe(tmp_path / "none" / "x.yaml")


def test_folder_and_pipe_are_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")

    with pytest.raises(CheckpointError, match="it is a folder, expected a recipe"):
        read_recipe(tmp_path)
    with pytest.raises(CheckpointError, match="it is no regular file, expected a recipe"):
        read_recipe(tmp_path / "pipe.yaml")


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_pipe_that_was_handed_over_open_is_read_to_its_end(name: str) -> None:
    program = "import sys; [print(line, flush=True) for line in sys.argv[1].splitlines()]"
    command = [sys.executable, "-c", program, f"\ufeff{SMALL}"]

    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        recipe = read_recipe(name.format(child.stdout.fileno()))

    assert recipe.replace == parse_recipe(SMALL, "x", ".").replace
    assert recipe.source.folder == "."


def test_pipe_without_an_end_is_read_up_to_a_bound() -> None:
    with subprocess.Popen(["yes", "#"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None

        with pytest.raises(RecipeError, match="over the 262,144 that a recipe may have"):
            read_recipe(f"/dev/fd/{child.stdout.fileno()}")


def test_text_of_a_pipe_that_is_no_text_is_reported() -> None:
    read, written = os.pipe()
    os.write(written, b"ab\xff")
    os.close(written)

    with pytest.raises(RecipeError, match="it is not text: byte 2 is not UTF-8"):
        read_recipe(f"/dev/fd/{read}")
    os.close(read)


@pytest.mark.parametrize("name", ["/dev/fd/999", "/dev/fd/x", "/dev/null", "/dev/zero"])
def test_other_names_of_the_system_are_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no such recipe|it is no regular file"):
        read_recipe(name)


def test_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"it cannot be read: File name too long"):
        read_recipe(tmp_path / ("x" * 300))


def test_binary_file_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"PK\x03\x04\xff\xfe")

    with pytest.raises(RecipeError, match=r"it is not text: byte 4 is not UTF-8"):
        read_recipe(tmp_path / "net.pt")


@given(st.text(max_size=200))
def test_no_text_is_answered_with_a_traceback(text: str) -> None:
    with contextlib.suppress(ModswapError):
        parse(text)


@pytest.mark.parametrize("key", ["after", "before", "around", "exclude"])
def test_bad_pattern_of_a_rule_that_inserts_is_reported_with_its_place(key: str) -> None:
    rule = {"after": "a", "with": "CBAM"} if key == "exclude" else {"with": "CBAM"}
    text = yaml.safe_dump({"version": 1, "insert": [rule | {key: ["a", "b..c"]}]})
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "b..c" in line)

    (told,) = errors(text)
    assert told.startswith(f"swap.yaml:{line}:")
    assert "'b..c' has an empty segment" in told

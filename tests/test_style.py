"""The numbers and habits of CONTRIBUTING, enforced on every source file.

A test file covers the module of its own name, and those that its docstring lists in the form
`Covers: a, b, c.`
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import modswap
from tests.style import (
    Function,
    Source,
    banned_first_lines,
    body_lines,
    branch_score,
    covered,
    parameters,
    parsed,
    plans,
    sources,
    unclear,
    unreasoned,
)

PACKAGE = Path(modswap.__file__).parent
TESTS = Path(__file__).parent

FILE_LINES = 400
BODY_LINES = 40
FOLDER_FILES = 15
TABLE_FOLDER_FILES = 24  # flat tables: one file for each row
TABLE_FOLDERS = ("nn", "ops/examine")
WORST_BRANCH_SCORE = 15
USUAL_BRANCH_SCORE = 8  # of 95 in 100 functions
PARAMETERS = 6

# signatures that others fixed, by file and function
FIXED_SIGNATURES = {
    "ops/api.py load": "an argument for each option of the commands that load",
    "nn/acmix.py __init__": "the paper's arguments",
    "nn/bilevel_routing_attention.py __init__": "the paper's arguments",
    "nn/window_attention.py __init__": "the paper's arguments",
    "nn/fit/sizes.py same_shape": "rows of other packages call it, as CONTRIBUTING shows",
    "nn/gpu/mixed/convolution_programs.py mixed_kernel": "triton takes pointers",
    "nn/gpu/mixed/convolution_programs.py mixed_grad_kernel": "triton takes pointers",
    "nn/gpu/mixed/convolution_programs.py mixed_tap_grad_kernel": "triton takes pointers",
    "nn/gpu/mixed/local_programs.py local_kernel": "triton takes pointers",
    "nn/gpu/mixed/local_programs.py local_query_grad_kernel": "triton takes pointers",
    "nn/gpu/mixed/local_programs.py local_key_grad_kernel": "triton takes pointers",
    "nn/gpu/mixed/local_programs.py position_kernel": "triton takes pointers",
    "nn/gpu/mixed/operator.py _mix": "a torch operator takes tensors only",
    "nn/gpu/mixed/operator.py _mix_fake": "a fake has its operator's signature",
    "nn/gpu/mixed/operator.py _mix_backward": "a torch operator takes tensors only",
    "nn/gpu/mixed/operator.py _mix_backward_fake": "a fake has its operator's signature",
    "nn/gpu/routed/attention_programs.py _attend_once": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py _attend_in_steps": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py attend_kernel": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py _local": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py _slopes": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py _slope_once": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py _slope_in_steps": "triton takes pointers",
    "nn/gpu/routed/attention_programs.py query_grad_kernel": "triton takes pointers",
    "nn/gpu/routed/convolution_programs.py convolved": "triton takes pointers",
    "nn/gpu/routed/convolution_programs.py conv_kernel": "triton takes pointers",
    "nn/gpu/routed/convolution_programs.py _row_sums": "triton takes pointers",
    "nn/gpu/routed/convolution_programs.py tap_grad_kernel": "triton takes pointers",
    "nn/gpu/routed/convolution_programs.py tap_sum_kernel": "triton takes pointers",
    "nn/gpu/routed/key_gradient_programs.py _sums": "triton takes pointers",
    "nn/gpu/routed/key_gradient_programs.py key_grad_kernel": "triton takes pointers",
    "nn/gpu/routed/operator.py _attend": "a torch operator takes tensors only",
    "nn/gpu/routed/operator.py _attend_fake": "a fake has its operator's signature",
    "nn/gpu/routed/operator.py _attend_backward": "a torch operator takes tensors only",
    "nn/gpu/routed/operator.py _attend_backward_fake": "a fake has its operator's signature",
    "nn/gpu/routed/routing_programs.py _window_mean": "triton takes pointers",
    "nn/gpu/routed/routing_programs.py _lay_out_taps": "triton takes pointers",
    "nn/gpu/routed/routing_programs.py prepare_kernel": "triton takes pointers",
    "nn/gpu/routed/routing_programs.py project_kernel": "triton takes pointers",
    "nn/gpu/routed/routing_programs.py _affinities": "triton takes pointers",
    "nn/gpu/routed/routing_programs.py route_kernel": "triton takes pointers",
    "nn/gpu/tiles.py load_tile": "triton takes pointers",
    "nn/gpu/tiles.py store_tile": "triton takes pointers",
    "nn/gpu/tiles.py load_shifted": "triton takes pointers",
    "nn/routed_attention/chunks.py forward": "autograd passes an operator's arguments one by one",
    "nn/routed_attention/chunks.py backward": "autograd passes an operator's arguments one by one",
    "nn/routed_attention/gpu.py forward": "autograd passes an operator's arguments one by one",
    "nn/routed_attention/gpu.py backward": "autograd passes an operator's arguments one by one",
    "nn/routed_attention/triton_kernel.py forward": "autograd passes an operator's arguments",
    "nn/routed_attention/triton_kernel.py backward": "autograd passes an operator's arguments",
    "nn/routed_attention/picking.py _attend": "a torch operator takes tensors and numbers only",
    "nn/routed_attention/picking.py _attend_fake": "a torch operator's fake has its signature",
    "nn/routed_attention/picking.py _attend_backward": "a torch operator takes tensors only",
    "nn/routed_attention/picking.py _attend_backward_fake": "a fake has its operator's signature",
    "nn/routed_attention/triton_programs.py _load_head": "triton takes pointers",
    "nn/routed_attention/triton_programs.py _store_head": "triton takes pointers",
    "nn/routed_attention/triton_programs.py _routed_keys": "triton takes pointers",
    "nn/routed_attention/triton_programs.py forward_kernel": "triton takes pointers",
    "nn/routed_attention/triton_programs.py query_grad_kernel": "triton takes pointers",
    "nn/routed_attention/triton_programs.py key_grad_kernel": "triton takes pointers",
    "nn/routed_attention/triton_programs.py weight_grad_kernel": "triton takes pointers",
    "ops/measure/meter.py _flash": "scaled_dot_product_attention has these arguments",
    "ops/run/shape_shortcuts.py _interpolate": "torch's interpolate has these arguments",
}


@cache
def _test_sources() -> list[Source]:
    return [replace(source, name=f"tests/{source.name}") for source in sources(TESTS)]


@cache
def _covered() -> set[str]:
    return {name for source in sources(TESTS) for name in covered(source)}


def _folder_sizes() -> Counter[str]:
    names = [source.name for source in sources(PACKAGE) if not source.name.endswith("__init__.py")]
    return Counter(name.rpartition("/")[0] for name in names)


def _functions(wrong: Callable[[Function], bool], source: Source) -> list[str]:
    return [function.name for function in source.functions if wrong(function)]


def _wide(source: Source) -> list[str]:
    if source.name.startswith("cli/"):  # typer takes a parameter for each option
        return []
    found = _functions(lambda function: parameters(function) > PARAMETERS, source)
    return [name for name in found if f"{source.name} {name}" not in FIXED_SIGNATURES]


def _untested(source: Source) -> list[str]:
    if not source.functions or source.name in _covered():  # plain data has no behaviour to test
        return []
    return ["no test of its name, none that covers it"]


RULES: dict[str, Callable[[Source], list[str]]] = {
    "lines": lambda source: ["too long"] if source.text.count("\n") > FILE_LINES else [],
    "body": lambda source: _functions(lambda each: body_lines(each) > BODY_LINES, source),
    "branches": lambda source: _functions(
        lambda each: branch_score(each) > WORST_BRANCH_SCORE, source
    ),
    "parameters": _wide,
    "words": banned_first_lines,
    "clear": unclear,
    "tested": _untested,
    "reasons": unreasoned,
    "plans": plans,
}
RULES_OF_TESTS = ("reasons", "plans", "clear")


@pytest.mark.parametrize("tests", [False, True], ids=["package", "tests"])
def test_every_file_keeps_the_rules(*, tests: bool) -> None:
    files = _test_sources() if tests else sources(PACKAGE)
    rules = [name for name in RULES if not tests or name in RULES_OF_TESTS]

    broken = {
        f"{rule} {file.name}": found
        for file in files
        for rule in rules
        if (found := RULES[rule](file))
    }
    assert broken == {}


def test_nineteen_functions_of_twenty_branch_little() -> None:
    scores = sorted(branch_score(each) for source in sources(PACKAGE) for each in source.functions)

    assert scores[int(0.95 * len(scores))] <= USUAL_BRANCH_SCORE


def test_no_folder_holds_too_many_files() -> None:
    most = dict.fromkeys(TABLE_FOLDERS, TABLE_FOLDER_FILES)
    sizes = _folder_sizes()

    assert {f: n for f, n in sizes.items() if n > most.get(f, FOLDER_FILES)} == {}


def test_no_two_classes_have_one_name() -> None:
    counts = Counter(name for source in sources(PACKAGE) for name in source.classes)

    assert {name for name, count in counts.items() if count > 1} == set()


def test_every_fixed_signature_is_there_and_wide() -> None:
    there = {
        f"{source.name} {function.name}"
        for source in sources(PACKAGE)
        for function in source.functions
        if parameters(function) > PARAMETERS
    }

    assert set(FIXED_SIGNATURES) - there == set()


SAMPLE = '''"""What a sample shows."""


def branchy(a, b, *, c):
    """Whether it branches."""
    for x in a if b else c:
        try:
            assert x and (a or b or c)
        except ValueError:
            pass
    while [y for y in a]:
        match a:
            case 1:
                pass
    def inner():
        return 1 if a else 2
'''


def test_branches_loops_handlers_operators_and_comprehensions_count() -> None:
    branchy, inner = parsed("a.py", SAMPLE).functions

    # for, if else, except, and, two of or, while, comprehension, case
    assert branch_score(branchy) == 1 + 9
    assert branch_score(inner) == 1 + 1


def test_parameters_are_counted_without_self_and_bodies_without_docstrings() -> None:
    branchy, _ = parsed("a.py", SAMPLE).functions
    method = parsed("a.py", "class A:\n def f(self, a, /, b, *rest, c, **more): pass").functions[0]

    assert (parameters(branchy), parameters(method)) == (3, 3)
    assert body_lines(branchy) == 11


def test_first_lines_with_banned_words_are_found() -> None:
    assert banned_first_lines(parsed("a.py", SAMPLE)) == [
        "What a sample shows.",
        "Whether it branches.",
    ]
    assert banned_first_lines(parsed("a.py", '"""Return what is told."""')) != []
    assert banned_first_lines(parsed("a.py", '"""Return whether one of them holds."""')) == []


@pytest.mark.parametrize(
    "text", ["def test_it_is_told(): pass", '"""A.\n\nIt lies there."""', "# told"]
)
def test_words_of_several_meanings_are_found_in_names_docstrings_and_comments(text: str) -> None:
    assert len(unclear(parsed("a.py", f"{text}\n"))) == 1
    assert unclear(parsed("a.py", '"""It relies on families."""\ntold = 1\n')) == []


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("# noqa: S101", True),
        ("# noqa: FBT001, FBT002", True),
        ("# noqa: S101 - it ends in .py", False),
        ("# type: ignore[arg-type]", True),
        ("# type: ignore[arg-type] # one of two", False),
        ("# pragma: no cover", True),
        ("# pragma: no cover - needs a GPU", False),
        ("# a comment", False),
    ],
)
def test_comments_that_switch_a_tool_off_need_a_reason(comment: str, *, bare: bool) -> None:
    assert bool(unreasoned(parsed("a.py", f"x = 1  {comment}\n"))) is bare


def test_promises_of_later_work_are_found_in_comments_only() -> None:
    mark = "TO" + "DO"

    assert plans(parsed("a.py", f"x = 1  # {mark}: later\n")) == [f"# {mark}: later"]
    assert plans(parsed("a.py", f"x = '{mark}'\n")) == []


def test_a_test_covers_its_own_name_and_those_listed() -> None:
    text = '"""Tests of files.\n\nCovers: b, c.d,\ne. More follows.\n"""\n'

    assert covered(parsed("io/test_a.py", text)) == ["io/a.py", "io/b.py", "io/c/d.py", "io/e.py"]

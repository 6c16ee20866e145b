"""The pattern language for module paths."""

import itertools
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.asked.patterns import compile_pattern, is_like_regex, pattern_of
from modswap.core.errors import RecipeError

SEGMENT = st.text("abcxyz0123_", min_size=1, max_size=6)
PATHS = st.lists(SEGMENT, min_size=1, max_size=6).map(".".join)


def matches(pattern: str, path: str) -> bool:
    return compile_pattern(pattern).matches(path)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("blocks.*.attn", "blocks.3.attn", True),
        ("blocks.*.attn", "blocks.3.mlp.attn", False),
        ("blocks.1.attn", "blocks.10.attn", False),
        ("blocks.1*.attn", "blocks.10.attn", True),
        ("attn", "blocks.attn", False),
        ("**.attn", "attn", True),
        ("**.attn", "a.attn", True),
        ("**.attn", "a.b.c.attn", True),
        ("**.attn", "a.battn", False),
        ("a.**", "a", True),
        ("a.**", "a.b.c", True),
        ("a.**", "ab", False),
        ("a.**.z", "a.z", True),
        ("a.**.z", "a.b.c.z", True),
        ("a.**.**.z", "a.z", True),
        ("**", "a.b", True),
        ("**", "a", True),
        ("**.{space,channel}_attention", "net.space_attention", True),
        ("**.{space,channel}_attention", "channel_attention", True),
        ("**.{space,channel}_attention", "net.time_attention", False),
        ("{a.b,c}.d", "a.b.d", True),
        ("{a.b,c}.d", "c.d", True),
        ("x{1,2{a,b}}", "x2b", True),
        ("x{1,2{a,b}}", "x2", False),
        ("a{,b}", "a", True),
        ("blocks.?.attn", "blocks.3.attn", True),
        ("blocks.?.attn", "blocks.10.attn", False),
        ("blocks.[0-3].attn", "blocks.2.attn", True),
        ("blocks.[!0-3].attn", "blocks.2.attn", False),
        ("blocks.[!0-3].attn", "blocks.7.attn", True),
        ("a[b", "a[b", True),
        ("a+b", "a+b", True),
        ("a+b", "aab", False),
        (r"re:blocks\.\d+\.attn", "blocks.10.attn", True),
        (r"re:blocks\.\d+", "blocks.10.attn", False),
        ("a***b", "axb", True),
        ("**_attn", "space_attn", True),
        ("**_attn", "net.space_attn", False),
        ("**.a.**", "a", True),
        ("**.a.**", "x.a.y", True),
        ("**.a.**", "x.b.y", False),
        ("**.a.**.a", "a", False),
        ("**.a.**.a", "a.a", True),
        ("**.**", "a", True),
        ("*", "", False),
        ("**", "", False),
        ("*a*", "banana", True),
        ("*an*an*", "ban", False),
        ("a[+-9]b", "a.b", False),
        ("a[+-9]b", "a5b", True),
        ("a[!-z]b", "a1b", True),
        ("a[!-z]b", "a-b", False),
        ("a[!]b", "a[!]b", True),
        ("a[]]b", "a]b", True),
        ("a[&^~|]", "a^", True),
        ("re:[[a]", "[", True),
    ],
)
def test_pattern_runs_over_whole_segments(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@given(PATHS)
def test_a_path_without_wildcards_selects_itself(path: str) -> None:
    assert matches(path, path)


@given(PATHS, PATHS)
def test_a_path_without_wildcards_selects_nothing_else(path: str, other: str) -> None:
    assert matches(path, other) is (path == other)


@given(PATHS, st.data())
def test_star_matches_any_single_segment(path: str, data: st.DataObject) -> None:
    segments = path.split(".")
    index = data.draw(st.integers(0, len(segments) - 1))
    starred = ".".join([*segments[:index], "*", *segments[index + 1 :]])

    assert matches(starred, path)
    assert not matches(starred, f"{path}.more")


@given(PATHS, PATHS)
def test_two_stars_match_any_segments(head: str, tail: str) -> None:
    assert matches(f"**.{tail}", f"{head}.{tail}")
    assert matches(f"{head}.**", f"{head}.{tail}")
    assert matches(f"{head}.**.{tail}", f"{head}.{tail}")


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("", "the pattern is empty"),
        ("a..b", "'a..b' has an empty segment"),
        (".a", "'.a' has an empty segment"),
        ("{a,b", "'{a,b' opens a brace that it does not close"),
        ("a}", "'a}' closes a brace that it did not open"),
        ("re:(", "'re:(' is no regular expression"),
        ("a[z-a]", "'a[z-a]' has a range that runs backwards"),
        ("a" * 2001, "has 2,001 characters, over the 2,000 of a pattern"),
        ("{" + "a," * 500 + "}" + "x" * 900, "expands to patterns of over 100,000 characters"),
        ("{a,b}" * 12, "expands to over 1000 patterns"),
        ("{" + "," * 1001 + "}", "expands to over 1000 patterns"),
    ],
)
def test_what_is_no_pattern_is_refused_with_its_place(pattern: str, what: str) -> None:
    with pytest.raises(RecipeError) as raised:
        compile_pattern(pattern, "swap.yaml:4:5")

    assert raised.value.where == "swap.yaml:4:5"
    assert what in raised.value.what
    assert raised.value.fix


@pytest.mark.parametrize(
    ("pattern", "fix"),
    [
        ("blocks.{0..2}.attn", "write `blocks.{0,1,2}.attn`"),
        ("blocks.{3...4}", "write `blocks.{3,4}`"),
        ("blocks.{2..0}.attn", "write a path such as 'blocks.*.attn'"),
    ],
)
def test_range_of_a_shell_is_written_as_a_list(pattern: str, fix: str) -> None:
    with pytest.raises(RecipeError) as raised:
        compile_pattern(pattern)

    assert raised.value.fix.startswith(fix)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a*a*a*a.**.b*c*d", "a" * 60 + ".x" * 60 + "." + "bc" * 30),
        ("*a" * 30 + "b", "a" * 200),
        ("**.a" + ".**.a" * 30 + ".z", ".".join("a" * 200)),
        ("**.*a*a*a" + ".**.*a*a*b" * 9, ".".join(["aaaaaaaa"] * 60)),
        ("{*a*a,**.a.**.a}" * 9 + "z", "a" * 100 + ".a" * 100),
    ],
)
def test_many_stars_do_not_take_forever(pattern: str, path: str) -> None:
    started = time.process_time()

    assert not matches(pattern, path)
    assert time.process_time() - started < 5  # a search that tries every place takes hours


def test_hundred_thousand_paths_are_tried_in_little_time() -> None:
    pattern = compile_pattern("**.block.*.{q,k,v}_proj")
    paths = [f"model.layers.{i}.block.{i % 97}.{'qkvo'[i % 4]}_proj" for i in range(100_000)]
    started = time.process_time()

    assert sum(map(pattern.matches, paths)) == 75_000
    assert time.process_time() - started < 5


def selects(glob: Sequence[str], path: Sequence[str]) -> bool:
    """Return whether a pattern selects a path, by trying every match."""
    if not glob:
        return not path
    if glob[0] == "**":
        return any(selects(glob[1:], path[end:]) for end in range(len(path) + 1))
    return bool(path) and within(glob[0], path[0]) and selects(glob[1:], path[1:])


def within(glob: str, segment: str) -> bool:
    if not glob:
        return not segment
    if glob[0] == "*":
        return any(within(glob[1:], segment[end:]) for end in range(len(segment) + 1))
    return bool(segment) and glob[0] in {"?", segment[0]} and within(glob[1:], segment[1:])


GLOBS = st.lists(st.just("**") | st.text("ab*?", min_size=1, max_size=5), min_size=1, max_size=5)
FEW = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=6)


@given(GLOBS, FEW)
def test_pattern_selects_what_trying_everything_selects(glob: list[str], path: list[str]) -> None:
    assert matches(".".join(glob), ".".join(path)) is selects(glob, path)


def test_short_patterns_select_what_trying_everything_selects() -> None:
    segments = ["a", "b", "*", "a*", "*b", "?", "**"]
    paths = [p for n in (1, 2, 3, 4) for p in itertools.product(("a", "b", "ab"), repeat=n)]
    for glob in itertools.product(segments, repeat=3):
        pattern = compile_pattern(".".join(glob))
        found = [path for path in paths if pattern.matches(".".join(path))]
        assert found == [path for path in paths if selects(glob, path)], glob


@pytest.mark.parametrize(
    "text", [".*attn", r"a\.{2", "a|b}", "(a{1", "x+[z-a]", "a..b", "^a..b", r"\w{1,2}}"]
)
def test_faulty_glob_that_looks_like_a_regular_expression_is_offered_re(text: str) -> None:
    with pytest.raises(RecipeError) as raised:
        compile_pattern(text)

    assert raised.value.fix.endswith(f"; a regular expression begins with `re:`, as in `re:{text}`")


@pytest.mark.parametrize("text", ["a.b", "**.a", "a[!b].*", "re:a.+", "a.*b", "{a,b}.c?", "a-b_1"])
def test_sound_pattern_is_not_taken_for_a_regular_expression(text: str) -> None:
    assert not is_like_regex(text)


@pytest.mark.parametrize(
    "path", ["a.b", "a*b", "a?.[c]", "x{1,2}", "re:a", "a\\b", "(a|b).c$", "a.\ud800.b"]
)
def test_the_pattern_of_a_path_selects_it_and_no_other(path: str) -> None:
    pattern = compile_pattern(pattern_of(path))

    assert pattern.matches(path)
    assert not any(pattern.matches(other) for other in (f"{path}x", f"x{path}", path[:-1], "b"))

"""The pattern language for module paths."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.errors import RecipeError
from modswap.core.patterns import check_pattern, compile_pattern, matches

SEGMENT = st.text("abcxyz0123_", min_size=1, max_size=6)
PATHS = st.lists(SEGMENT, min_size=1, max_size=6).map(".".join)


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
def test_star_stands_for_any_one_segment(path: str, data: st.DataObject) -> None:
    segments = path.split(".")
    index = data.draw(st.integers(0, len(segments) - 1))
    starred = ".".join([*segments[:index], "*", *segments[index + 1 :]])

    assert matches(starred, path)
    assert not matches(starred, f"{path}.more")


@given(PATHS, PATHS)
def test_two_stars_stand_for_any_segments(head: str, tail: str) -> None:
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
        ("{a,b}" * 12, "stands for over 1000 patterns"),
        ("{" + ",".join("a" * 1002) + "}", "stands for over 1000 patterns"),
    ],
)
def test_what_is_no_pattern_is_refused_with_its_place(pattern: str, what: str) -> None:
    with pytest.raises(RecipeError) as raised:
        check_pattern(pattern, "swap.yaml:4:5")

    assert raised.value.where == "swap.yaml:4:5"
    assert what in raised.value.what
    assert raised.value.fix


def test_many_stars_do_not_take_forever() -> None:
    pattern = compile_pattern("*a*a*a*a.**.b*c*d")
    started = time.monotonic()

    assert not pattern.matches("a" * 60 + ".x" * 60 + "." + "bc" * 30)
    assert time.monotonic() - started < 20  # a hang would take hours

"""What patterns could mean that select nothing, or modules of many kinds."""

import pytest

from modswap.core.asked.patterns import compile_pattern
from modswap.core.decided.pattern_advice import Advice, advice_for, class_advice, classes
from modswap.core.decided.plan import make_plan
from modswap.core.errors import MatchError
from modswap.core.finding import HERE
from modswap.core.seen.site import Site
from tests.core.decided.test_plan import SITES, recipe

PATHS = [path for site in SITES for path in site.paths]
REGEX = "a regular expression begins with `re:` and matches whole paths"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (r"blocks\.\d+\.attn", r"re:blocks\.\d+\.attn"),
        (r"(stem|blocks)\d*", r"re:(stem|blocks)\d*"),
        (r"(stem|mid)\d*", r"re:(stem|mid)\d*"),
        ("blocks.[0-9]+.attn", "re:blocks.[0-9]+.attn"),
        ("st.+", "re:st.+"),
        ("^stem$", "re:^stem$"),
        ("attn$", "re:.*attn"),
        ("^blocks.1", "re:^blocks.1"),
        ("^blo", "re:blo.*"),
        ("(attn|mlp)$", "re:.*(?:(attn|mlp))"),
        (r"^blocks\.\d", r"re:^blocks\.\d"),
        (r"\.attn", r"re:.*\.attn"),
        (r"s\.1", r"re:.*s\.1"),
        (r"cks\.10", r"re:.*cks\.10.*"),
        ("re:attn", "re:.*attn"),
        ("re:^blocks.0$", "re:blocks.0"),
        ("blocks.*attn", "re:blocks.*attn"),
        ("*.attn", "**.attn"),
        ("attn", "**.attn"),
        ("1.attn", "**.1.attn"),
    ],
)
def test_other_reading_that_selects_modules_is_offered(text: str, meant: str) -> None:
    advice = advice_for(text, PATHS, "otherwise")

    assert advice.settings == ((HERE, meant),)
    assert f"`match: '{meant}'` selects " in advice.fix
    pattern = compile_pattern(meant)
    assert advice.fix.partition(" selects ")[2].split(", ")[0] in filter(pattern.matches, PATHS)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("blocks.*.atn", "did you mean 'blocks.0.attn', 'blocks.1.attn' or 'blocks.10.attn'?"),
        (r"stam\d*", f"{REGEX}; did you mean 'stem'?"),
        (r"zz\d", f"{REGEX}; otherwise"),
        ("re:zz", "otherwise"),
        ("re:(zz", "otherwise"),
        ("zz(", f"{REGEX}; otherwise"),
    ],
)
def test_pattern_without_another_reading_gets_near_paths_or_the_general_advice(
    text: str, fix: str
) -> None:
    assert advice_for(text, PATHS, "otherwise").fix == fix


def test_path_with_a_quote_is_written_without_quotes() -> None:
    fix = advice_for("a'b", ["x.a'b", "x.c", "x.d", "x.e"], "otherwise").fix

    assert fix == "a pattern is a whole path: `match: **.a'b` selects x.a'b"


def many(*names: str) -> list[Site]:
    return [Site(f"layer.{index}.m", name) for index, name in enumerate(names)]


def test_classes_are_counted_the_most_frequent_first() -> None:
    assert classes(many("a.B", "a.C", "a.B")) == "2 B, 1 C"
    assert classes(many(*"ABCDEFGA")) == "2 A, 1 B, 1 C, 1 D, 1 E, 1 F, …"


def test_class_that_is_offered_is_not_inside_its_own_kind() -> None:
    nested = [Site("a", "m.Block"), Site("a.b", "m.Block"), Site("a.c", "m.Leaf")]

    assert class_advice(nested).fix.endswith("such as `class: Leaf`")
    assert class_advice(nested, ("Leaf",)) == Advice("narrow `match`")
    assert class_advice([*many("A", "A"), Site("x.y", "MyAttention")]).fix.endswith(
        "`class: MyAttention`"
    )


def test_rule_that_takes_everything_lists_classes_and_offers_one() -> None:
    with pytest.raises(MatchError) as caught:
        make_plan(recipe({"match": "**"}, {"match": "blocks.0.attn"}), SITES)

    message = str(caught.value)
    assert "'blocks.0.attn' is selected by the rule" in message
    with pytest.raises(MatchError) as alone:
        make_plan(recipe({"match": "**"}), [*SITES, *deeper()])
    assert str(alone.value) == (
        "swap.yaml:11:5: 11 modules match, 7 of them inside others: 8 Conv2d, 3 Attention; "
        "add `class:` to take modules of one kind, such as `class: Attention`"
    )
    plan = make_plan(recipe({"match": "**", "class": "Attention"}), [*SITES, *deeper()])
    assert len(plan.paths) == 3


def deeper() -> list[Site]:
    return [Site(f"blocks.0.attn.{name}", SITES[0].class_name) for name in "qkvo"]


def test_number_that_is_not_expected_lists_the_classes() -> None:
    with pytest.raises(MatchError, match="of these there are 2 Conv2d, 1 Attention: `class: Att"):
        make_plan(recipe({"match": ["stem", "blocks.0.*"], "expect": 1}), SITES)


def test_class_that_is_misspelt_is_corrected() -> None:
    rule = {"match": "blocks.0.*", "class": "Atention"}

    with pytest.raises(MatchError, match="none is Atention; did you mean 'Attention'"):
        make_plan(recipe(rule), SITES)
    with pytest.raises(MatchError, match="none is Zzz; correct `class`, or `match`"):
        make_plan(recipe({**rule, "class": "Zzz"}), SITES)

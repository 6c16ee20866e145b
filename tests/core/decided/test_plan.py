"""The sites that a recipe selects, and every mistake in a selection."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.source import Source
from modswap.core.decided.plan import is_class, make_plan
from modswap.core.errors import MatchError
from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.values import TensorInfo

CONV = "torch.nn.modules.conv.Conv2d"


def site(
    path: str,
    class_name: str = CONV,
    shape: tuple[int, ...] = (1, 8, 4, 4),
    aliases: tuple[str, ...] = (),
    layout: Layout | None = "NCHW",
) -> Site:
    seen = TensorInfo(shape)
    return Site(path, class_name, aliases, (Call((seen,), (), seen),), layout)


def recipe(*rules: Mapping[str, Any]) -> Recipe:
    full = [{"with": "BiLevelRoutingAttention", **rule} for rule in rules]
    lines: dict[tuple[str | int, ...], tuple[int, int]] = {}
    for index, rule in enumerate(full):
        for offset, key in enumerate(rule):
            lines[("replace", index, key)] = (10 * (index + 1) + offset, 5)
    made = Recipe.model_validate({"version": 1, "replace": full})
    return made.read_from(Source("swap.yaml", "", lines))


SITES = [
    site("stem"),
    site("blocks.0"),
    site("blocks.0.attn", "net.Attention"),
    site("blocks.0.mlp"),
    site("blocks.1"),
    site("blocks.1.attn", "net.Attention", (1, 16, 2, 2)),
    site("blocks.10.attn", "net.Attention", (1, 32, 1, 1)),
]


@pytest.mark.parametrize(
    ("rule", "paths"),
    [
        ({"match": "stem"}, ["stem"]),
        ({"match": "blocks.*.attn"}, ["blocks.0.attn", "blocks.1.attn", "blocks.10.attn"]),
        ({"match": "blocks.1.*"}, ["blocks.1.attn"]),
        ({"match": "**.attn", "exclude": "blocks.1?.attn"}, ["blocks.0.attn", "blocks.1.attn"]),
        ({"match": ["stem", "**.mlp"]}, ["stem", "blocks.0.mlp"]),
        ({"match": "blocks.0.*", "class": "Attention"}, ["blocks.0.attn"]),
        ({"match": "blocks.0.*", "class": "torch.nn.Conv2d"}, ["blocks.0.mlp"]),
        ({"match": "**.attn", "where": {"channels": ">=16"}}, ["blocks.1.attn", "blocks.10.attn"]),
        ({"match": "**.attn", "where": {"height": 2, "calls": 1}}, ["blocks.1.attn"]),
        ({"match": r"re:blocks\.\d\.attn", "expect": 2}, ["blocks.0.attn", "blocks.1.attn"]),
    ],
)
def test_rule_selects_its_sites_in_the_order_of_the_model(
    rule: dict[str, Any], paths: list[str]
) -> None:
    assert list(make_plan(recipe(rule), SITES).paths) == paths


def test_rule_selects_a_shared_module_by_any_of_its_paths() -> None:
    shared = site("encoder.gate", aliases=("decoder.gate",))

    plan = make_plan(recipe({"match": "decoder.*"}), [shared])

    assert plan.steps[0].sites == (shared,)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [{"match": "blocks.*.atn"}],
            r"^swap\.yaml:11:5: no module matches 'blocks\.\*\.atn'; did you mean 'blocks\.",
        ),
        (
            [{"match": "**.attn", "exclude": ["stem"]}],
            r"^swap\.yaml:12:5: 'stem' excludes nothing that `match` selects",
        ),
        (
            [{"match": "stem", "exclude": ["stem"]}],
            r"^swap\.yaml:12:5: `exclude` removes every module that `match` selects",
        ),
        (
            [{"match": "**.attn", "expect": 2}],
            r"^swap\.yaml:12:5: 3 modules match, expected 2: blocks\.0\.attn, blocks\.1\.attn",
        ),
        (
            [{"match": "stem", "class": "Linear"}],
            r"^swap\.yaml:12:5: 1 module matches of class Conv2d, none is Linear; set `class`",
        ),
        (
            [{"match": "**.attn", "where": {"channels": ">64"}}],
            r"^swap\.yaml:12:5: 3 modules match, none with channels >64: blocks\.0\.attn has 8",
        ),
        (
            [{"match": "stem"}, {"match": "st*"}],
            r"^swap\.yaml:21:5: 'stem' is selected by the rule at swap\.yaml:11:5 already",
        ),
        (
            [{"match": "blocks.0"}, {"match": "blocks.0.attn"}],
            r"^swap\.yaml:21:5: 'blocks\.0\.attn' is inside 'blocks\.0', which the rule at swap",
        ),
        (
            [{"match": "blocks.1.**"}],
            r"^swap\.yaml:11:5: 'blocks\.1\.attn' is inside 'blocks\.1', which the same rule",
        ),
    ],
)
def test_wrong_rule_is_refused_with_its_line(rules: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(MatchError, match=message):
        make_plan(recipe(*rules), SITES)


@pytest.mark.parametrize(
    ("replaced", "what"),
    [
        ("blocks.0", "'blocks.0.attn' would have a module beside it, and is inside 'blocks.0', "),
        ("blocks.0.attn", "'blocks.0.attn' would have a module beside it, and itself is replaced"),
    ],
)
def test_what_is_replaced_has_nothing_put_beside_it(replaced: str, what: str) -> None:
    rules = recipe({"match": replaced}).replace
    beside = Insert.model_validate({"after": "blocks.0.attn", "with": "CBAM"})
    other = Insert.model_validate({"after": "stem", "with": "CBAM"})
    made = Recipe(version=1, replace=rules, insert=[other, beside])

    with pytest.raises(MatchError, match=re.escape(what)):
        make_plan(made.read_from(Source("swap.yaml", "", {})), SITES)


def test_class_in_the_place_of_a_path_is_recognised() -> None:
    with pytest.raises(MatchError) as refused:
        make_plan(recipe({"match": "Conv2d"}), [site("stem"), site("head")])

    says = "it is a class: `match: '**'` with `class: Conv2d` selects its modules"
    assert refused.value.fix == says


def test_errors_of_all_rules_come_together() -> None:
    wrong = recipe({"match": "nothing"}, {"match": "stem", "expect": 3}, {"match": ["x", "y"]})

    with pytest.raises(MatchError) as raised:
        make_plan(wrong, SITES)

    assert [error.where for error in raised.value.all] == [
        "swap.yaml:11:5",
        "swap.yaml:22:5",
        "swap.yaml:31:5",
        "swap.yaml:31:5",
    ]


def test_condition_on_tokens_counts_them_in_any_layout() -> None:
    tokens = site("a", shape=(2, 49, 8), layout="NLC")
    map_ = site("b", shape=(2, 8, 7, 7))
    unknown = site("c", layout=None)

    plan = make_plan(recipe({"match": "*", "where": {"tokens": 49}}), [tokens, map_, unknown])

    assert plan.paths == ("a", "b")


@pytest.mark.parametrize(
    ("layout", "facts"), [("NLC", "has 8 channels, 49 tokens"), (None, "has 1 calls of unknown")]
)
def test_refused_condition_names_the_observed_sizes(layout: Layout | None, facts: str) -> None:
    seen = site("a", shape=(2, 49, 8), layout=layout)

    with pytest.raises(MatchError, match=facts):
        make_plan(recipe({"match": "a", "where": {"channels": 9}}), [seen])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("Conv2d", True),
        ("torch.nn.Conv2d", True),
        ("torch.nn.modules.conv.Conv2d", True),
        ("nn.Conv2d", False),
        ("Conv", False),
        ("torchvision.Conv2d", False),
    ],
)
def test_class_is_found_by_its_bare_and_its_public_name(wanted: str, expected: bool) -> None:
    assert is_class(CONV, wanted) is expected


def test_step_names_the_key_of_its_patterns() -> None:
    rules = [{"match": "a", "with": "ACmix"}]

    (step,) = make_plan(recipe(*rules), [site("a")]).steps

    assert step.key == "match"

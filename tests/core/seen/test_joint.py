"""Names of modules that are put in beside others."""

from typing import Any

import pytest

from modswap.core.seen.joint import Joint, free_name, snake_case


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CBAM", "cbam"),
        ("SEBlock", "se_block"),
        ("BiLevelRoutingAttention", "bi_level_routing_attention"),
        ("ACmix", "acmix"),
        ("SCSE", "scse"),
        ("ECA", "eca"),
        ("Conv2d", "conv2d"),
        ("CoordinateAttention", "coordinate_attention"),
    ],
)
def test_class_names_become_names_of_attributes(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def test_a_taken_name_gets_the_first_free_number() -> None:
    assert free_name("cbam", set()) == "cbam"
    assert free_name("cbam", {"cbam", "cbam_2"}) == "cbam_3"


@pytest.mark.parametrize(("form", "gated"), [("scale", True), ("add", True), ("sum", False)])
def test_some_forms_have_a_gate(form: Any, gated: bool) -> None:
    assert Joint("after", form).has_gate is gated

"""The keys of a rule.

Covers: common, keys.
"""

import pytest
from pydantic import ValidationError

from modswap.core.asked.rules.rule import Rule


def test_a_rule_takes_one_pattern_or_several() -> None:
    one = Rule.model_validate({"match": "a", "with": "B"})
    several = Rule.model_validate({"match": ["a", "b"], "with": "B"})

    assert (one.match, several.match) == (("a",), ("a", "b"))


@pytest.mark.parametrize(
    "keys",
    [
        {"match": []},
        {"match": "a\0" * 9999},
        {"adapt": True, "output": "changed"},
        {"start": "preserve", "output": "changed"},
    ],
)
def test_a_rule_refuses_wrong_keys(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate({"match": "a", "with": "B"} | keys)

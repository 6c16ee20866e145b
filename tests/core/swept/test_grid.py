"""The trials of a sweep: every combination, and options that are wrong."""

from typing import Any, cast

import pytest

from modswap.core.errors import UsageError
from modswap.core.swept.grid import refuse_wrong, trials_of


def test_every_site_is_tried_with_every_combination() -> None:
    trials = trials_of(["a", "b"], {"M": ("k", "w", "n")}, {"n": 2}, {"k": [1, 4], "w": [7]})

    found = [(one.site, dict(one.args), dict(one.base)) for one in trials]
    assert found == [(s, {"k": k, "w": 7}, {"n": 2}) for s in "ab" for k in (1, 4)]
    assert trials[0].words == "k=1 w=7"
    assert len({one.key for one in trials}) == 4


def test_module_is_tried_once_without_the_options_that_it_lacks() -> None:
    trials = trials_of(["a"], {"M": ("k",), "N": ("n",), "p:C": None}, {"n": 3}, {"k": [1, 2]})

    found = [(one.module, one.words, dict(one.base)) for one in trials]
    assert found == [
        ("M", "k=1", {}),
        ("M", "k=2", {}),
        ("N", "", {"n": 3}),
        ("p:C", "k=1", {"n": 3}),
        ("p:C", "k=2", {"n": 3}),
    ]


@pytest.mark.parametrize(
    ("settings", "grid", "modules", "message"),
    [
        ({"k": 1}, {"k": [1]}, {"M": ("k",)}, "--grid: 'k' is set, and varied as well; keep one"),
        ({}, {"kk": [1]}, {"M": ("k",)}, "--grid: M has no option 'kk'; did you mean 'k'"),
        ({"z": 1}, {}, {"M": ("k",), "N": ("n",)}, "--set: M and N have no option 'z'; the opt"),
        ({}, {"k": range(10_001)}, {"M": None}, "--grid: 1 sites with 10001 combinations are"),
    ],
)
def test_wrong_options_are_refused(
    settings: dict[str, Any], grid: dict[str, Any], modules: Any, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        trials_of(["a"], modules, settings, grid)

    assert str(caught.value).startswith(message)


def test_values_are_a_list_and_vary_what_is_not_set() -> None:
    with pytest.raises(UsageError, match="'topk' has 3 in the place of a list of values"):
        refuse_wrong({"BRA": None}, {}, cast("Any", {"topk": 3}))
    with pytest.raises(UsageError, match="'topk' is set, and varied as well"):
        refuse_wrong({"BRA": None}, {"topk": 1}, {"topk": [1, 2]})

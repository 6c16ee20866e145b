"""Records of starts."""

from modswap.core.decided.started import FRESH, Started


def test_names_in_a_module_are_names_in_the_module_around_it() -> None:
    inner = Started("donor", {"weight": "old.pt: weight"})

    assert inner.under("module.").mapped == {"module.weight": "old.pt: weight"}
    assert FRESH.under("module.") == FRESH

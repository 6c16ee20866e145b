"""What a difference counts, in each part of a comparison."""

from modswap.core.kept.difference import DiffResult, Facts, Lone, Side, Spread, TensorPair

SIDE = Side("net.pt", "torch", 2, 8)
FLOAT, HALF = Facts("float32", (2,)), Facts("float16", (2,))


def pair(new: Facts = FLOAT, name: str = "w", *, equal: bool | None = True) -> TensorPair:
    return TensorPair("w", name, "name", FLOAT, new, equal)


def test_equal_pairs_are_no_difference() -> None:
    found = DiffResult(SIDE, SIDE, pairs=(pair(),))

    assert (found.equal, found.exit_code) == (True, 0)


def test_another_dtype_counts_unless_values_alone_are_asked_for() -> None:
    pairs = (pair(HALF),)

    assert DiffResult(SIDE, SIDE, pairs=pairs).counts["changed"] == 1
    assert DiffResult(SIDE, SIDE, "structure", (pair(HALF, equal=None),)).exit_code == 1
    assert DiffResult(SIDE, SIDE, "values", pairs).equal


def test_values_alone_count_no_names_and_modules() -> None:
    lone = (Lone("v", "float32 (2,)"),)

    found = DiffResult(SIDE, SIDE, "values", (pair(equal=False),), added=lone)

    assert found.counts == {"changed": 1}


def test_new_name_is_a_difference() -> None:
    found = DiffResult(SIDE, SIDE, pairs=(pair(name="v"),))

    assert found.moved == found.pairs
    assert found.counts["moved"] == 1
    assert found.changed == ()


def test_nothing_has_no_share_of_elements() -> None:
    assert Spread(0, 0, 0.0, None, None).share == 0.0
    assert Spread(4, 1, 1.0, None, None).share == 0.25


def test_facts_are_printed_as_torch_has_them() -> None:
    assert FLOAT.words == "float32 (2,)"

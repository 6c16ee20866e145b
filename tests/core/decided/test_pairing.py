"""Tensors of two checkpoints that belong together, found by names, contents and shapes."""

from collections.abc import Mapping, Sequence

import pytest

from modswap.core.decided.pairing import Pairing, ValueReading, pair_up, renamed
from modswap.core.kept.difference import Facts

Side = Mapping[str, tuple[tuple[int, ...], str]]  # shape and contents of each tensor

ZEROS = "000"  # contents that say nothing


def paired(a: Side, b: Side) -> Pairing:
    """Return the pairs of two sides whose contents are texts."""

    def equal(pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [a[old][1] == b[new][1] for old, new in pairs]

    def sample(side: int, name: str) -> bytes | None:
        text = (a, b)[side][name][1]
        return text[:1].encode() if text != ZEROS else None

    facts = [{n: Facts("float32", shape) for n, (shape, _) in side.items()} for side in (a, b)]
    return pair_up(facts[0], facts[1], ValueReading(equal, sample))


def layer(path: str, text: str, width: int = 4) -> dict[str, tuple[tuple[int, ...], str]]:
    return {f"{path}.weight": ((width, width), text), f"{path}.bias": ((width,), ZEROS)}


def test_tensors_of_one_name_are_pairs_whether_equal_or_not() -> None:
    found = paired({**layer("a", "x"), **layer("b", "y")}, {**layer("a", "x"), **layer("b", "z")})

    assert {name: how for name, (_, how) in found.pairs.items()} == dict.fromkeys(
        ("a.weight", "a.bias", "b.weight", "b.bias"), "name"
    )
    assert found.equal["a.weight", "a.weight"]
    assert not found.equal["b.weight", "b.weight"]
    assert (found.removed, found.added, found.moved) == ([], [], {})


def test_module_that_moved_is_found_by_its_contents_and_its_other_tensors_follow() -> None:
    found = paired(
        {**layer("enc.0", "x"), "enc.0.scale": ((4, 4), "p")},
        {**layer("body.0", "x"), "body.0.scale": ((4, 4), "q")},
    )

    assert found.pairs == {
        "enc.0.weight": ("body.0.weight", "content"),
        "enc.0.bias": ("body.0.bias", "module"),
        "enc.0.scale": ("body.0.scale", "module"),
    }
    assert found.moved == {"enc": "body"}


def test_layer_put_in_between_shifts_those_behind_it_and_their_equal_biases() -> None:
    before = {**layer("0", "x"), **layer("1", "y"), **layer("2", "z")}
    after = {**layer("0", "x"), **layer("1", "new"), **layer("2", "y"), **layer("3", "z")}

    found = paired(before, after)

    assert {old: new for old, (new, _) in found.pairs.items()} == {
        "0.weight": "0.weight", "0.bias": "0.bias", "1.weight": "2.weight", "1.bias": "2.bias",
        "2.weight": "3.weight", "2.bias": "3.bias",
    }  # fmt: skip
    assert found.added == ["1.weight", "1.bias"]


def test_layer_taken_out_shifts_those_behind_it_back() -> None:
    before = {**layer("0", "x"), **layer("1", "y"), **layer("2", "z")}

    found = paired(before, {**layer("0", "x"), **layer("1", "z")})

    assert found.pairs["2.bias"] == ("1.bias", "module")
    assert found.removed == ["1.weight", "1.bias"]


def test_copies_are_paired_in_the_order_of_their_names() -> None:
    found = paired(
        {**layer("a.0", "x"), **layer("a.1", "x")}, {**layer("b.0", "x"), **layer("b.1", "x")}
    )

    assert found.pairs["a.0.weight"] == ("b.0.weight", "content")
    assert found.pairs["a.1.weight"] == ("b.1.weight", "content")


def test_name_that_is_the_end_of_another_is_found() -> None:
    assert paired({"w": ((2,), "x")}, {"a.w": ((2,), "x")}).moved == {"w": "a.w"}


def test_same_beginning_is_not_the_same_contents() -> None:
    found = paired({"a.w": ((2,), "xa")}, {"b.v": ((2,), "xb")})

    assert found.pairs == {}
    assert (found.removed, found.added) == (["a.w"], ["b.v"])


def test_without_values_whole_modules_are_found_by_names_and_shapes_inside() -> None:
    a = {"enc.0.weight": Facts("float32", (4, 4)), "enc.0.bias": Facts("float32", (4,))}
    b = {"body.0.weight": Facts("float16", (4, 4)), "body.0.bias": Facts("float16", (4,))}
    head = {"head.weight": Facts("float32", (2, 4))}

    found = pair_up({**a, **head}, {**b, **head})

    assert found.pairs["enc.0.weight"] == ("body.0.weight", "shape")
    assert found.pairs["head.weight"] == ("head.weight", "name")
    assert found.moved == {"enc": "body"}


def test_whole_model_that_moved_into_another_module_is_found_by_shapes() -> None:
    a = {"stem.weight": Facts("float32", (4, 3)), "head.weight": Facts("float32", (2, 4))}
    b = {f"backbone.{name}": facts for name, facts in a.items()}

    found = pair_up(a, b)

    assert {old: new for old, (new, _) in found.pairs.items()} == {n: f"backbone.{n}" for n in a}
    assert found.moved == {"": "backbone"}
    assert renamed("stem", found.moved) == "backbone.stem"


def test_modules_of_equal_shapes_are_not_guessed_between() -> None:
    facts = Facts("float32", (4, 4))

    found = pair_up({"a.weight": facts, "b.weight": facts}, {"c.weight": facts, "d.weight": facts})

    assert found.pairs == {}


def test_tensors_of_different_kinds_are_no_pair() -> None:
    shape = (4,)

    found = pair_up({"x": Facts("float32", shape)}, {"x": Facts("float32", shape, "other")})

    assert (found.removed, found.added) == (["x"], ["x"])


def test_equal_biases_stay_where_the_module_of_their_name_did_not_move_into_place() -> None:
    before = {**layer("a", "x"), "a.gain": ((9,), ZEROS)}
    after = {**layer("b", "x"), "a.gain": ((9,), ZEROS)}

    found = paired(before, after)

    assert found.pairs["a.gain"] == ("a.gain", "name")


def test_name_with_a_meaning_of_its_own_is_kept_where_a_module_moved() -> None:
    before = {**layer("a", "x"), "a.gain": ((9,), "g")}
    after = {**layer("b", "x"), "a.gain": ((9,), "g"), "b.gain": ((9,), "h")}

    found = paired(before, after)

    assert found.pairs["a.gain"] == ("a.gain", "name")
    assert found.added == ["b.gain"]


@pytest.mark.parametrize(
    ("name", "new"), [("a.b.c", "x.c"), ("a.b", "x"), ("a.d", "y.d"), ("z", "")]
)
def test_new_name_follows_the_innermost_module_that_moved(name: str, new: str) -> None:
    assert renamed(name, {"a": "y", "a.b": "x"}) == new

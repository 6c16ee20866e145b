"""Renamings that are found by names and shapes, and tried."""

import pytest

from modswap.core.asked.renames import Rename, renamed
from modswap.core.decided.renaming import MAX_RULES, found_renames

NET = {
    "stem.weight": (8, 3, 3, 3), "stem.bias": (8,),
    "layers.0.attn.q.weight": (8, 8), "layers.0.mlp.fc1.weight": (16, 8),
    "layers.1.attn.q.weight": (8, 8), "layers.1.mlp.fc1.weight": (16, 8),
    "head.weight": (2, 8), "head.bias": (2,),
}  # fmt: skip


def moved(*pairs: tuple[str, str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file in which beginnings or parts of names are others."""
    found = {}
    for name, shape in NET.items():
        text = name
        for old, new in pairs:
            text = text.replace(old, new)
        found[text] = shape
    return found


@pytest.mark.parametrize("prefix", ["backbone.", "model.net.", "x."])
def test_prefix_is_found(prefix: str) -> None:
    stored = {f"{prefix}{name}": shape for name, shape in NET.items()}

    assert found_renames(stored, NET) == ((Rename(prefix, ""),),)


def test_missing_prefix_is_found() -> None:
    wanted = {f"net.{name}": shape for name, shape in NET.items()}

    assert found_renames(NET, wanted) == ((Rename("", "net."),),)


@pytest.mark.parametrize(
    "pairs",
    [
        [("layers.", "blocks.")],
        [("stem.", "conv1."), ("head.", "fc.")],
        [(".attn.", ".attention.")],
        [(".attn.", ".attention."), ("layers.", "blocks."), ("head.", "fc.")],
        [(".attn.q.", ".attention.self.query.")],
        [("head.weight", "head.gamma"), ("head.bias", "head.beta")],
    ],
)
def test_other_beginnings_and_parts_are_found(pairs: list[tuple[str, str]]) -> None:
    stored = moved(*pairs)

    (answer, *_) = found_renames(stored, NET)

    assert {renamed(name, answer): shape for name, shape in stored.items()} == NET


def test_two_copies_of_a_model_are_two_answers() -> None:
    stored = {
        f"{who}.{name}": shape for who in ("student", "teacher") for name, shape in NET.items()
    }

    assert found_renames(stored, NET) == ((Rename("student.", ""),), (Rename("teacher.", ""),))


def test_tensors_of_other_shapes_are_no_answer() -> None:
    stored = {f"x.{name}": (*shape, 1) for name, shape in NET.items()}

    assert found_renames(stored, NET) == ()
    assert found_renames({**NET, "x.head.weight": (2, 8)}, {**NET, "head.weight": (3, 8)}) == ()


def test_part_that_nothing_fills_is_no_answer() -> None:
    stored = {f"x.{n}": shape for n, shape in NET.items() if n != "head.weight"}

    assert found_renames(stored, NET) == ()
    assert found_renames(stored, NET, frozenset({"head.weight"})) == ((Rename("x.", ""),),)


def test_name_is_not_taken_from_a_tensor_that_has_its_place() -> None:
    wanted = {"a.weight": (2, 2), "b.weight": (2, 2)}

    assert found_renames({"a.weight": (2, 2)}, wanted) == ()
    assert found_renames({"a.weight": (2, 2), "c.a.weight": (2, 2)}, wanted) == (
        (Rename("c.a.", "b."),),
    )


def test_renaming_that_makes_two_names_one_is_no_answer() -> None:
    stored = {"a.weight": (2,), "x.a.weight": (2,), "x.b.weight": (3,)}

    assert found_renames(stored, {"a.weight": (2,), "b.weight": (3,)}) == ()


def test_many_single_renamings_are_no_answer() -> None:
    count = MAX_RULES + 4
    wanted = {f"w{n}.weight": (n + 1, 2) for n in range(count)}
    stored = {f"v{n}.weight": (n + 1, 2) for n in range(count)}

    assert found_renames(stored, wanted) == ()
    few = dict(list(wanted.items())[:3])
    assert len(found_renames(dict(list(stored.items())[:3]), few)[0]) == 3

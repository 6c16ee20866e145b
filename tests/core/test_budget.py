"""The bounds of a file: on names, on expanded tensors, on the memory of a pickle's objects."""

import pytest

from modswap.core.budget import (
    EXPANDED_TIMES,
    MAX_EXPANDED_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_NAME_DOTS,
    MAX_PATH_CHARACTERS,
    MAX_PATHS,
    MemoryBudget,
    PathBudget,
    expanded_flaw,
    name_flaw,
    names_flaw,
)


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("encoder.layers.11.attention.weight", ""),
        ("a" * MAX_NAME_CHARACTERS, ""),
        ("a" * 4_097, "a name in it has 4,097 characters, over 4,096"),
        ("." * MAX_NAME_DOTS, ""),
        ("a." * 300, "a name in it has 300 dots, over 256"),
    ],
    ids=["sound", "longest", "longer", "most dots", "more dots"],
)
def test_names_have_a_length_and_a_number_of_dots(name: str, flaw: str) -> None:
    assert name_flaw(name) == flaw


def test_paths_that_names_share_count_once() -> None:
    deep = ".".join("a" * 15 for _ in range(250))  # its beginnings have half a million characters

    assert names_flaw([f"{deep}.{number}" for number in range(2_000)]) == ""
    assert names_flaw([f"{number}.{deep}" for number in range(200)]) == (
        f"the paths that its names imply have over {MAX_PATH_CHARACTERS:,} characters in all"
    )
    assert names_flaw([f"{number}.{deep}" for number in range(100)]) == ""
    assert names_flaw(["a", "b." * 300]) == "a name in it has 300 dots, over 256"


def test_tensors_may_have_more_bytes_than_the_file_but_not_far_more() -> None:
    most = EXPANDED_TIMES * 1000 + MAX_EXPANDED_BYTES

    assert expanded_flaw(most, 1000) == ""
    assert expanded_flaw(most + 1, 1000).startswith(
        f"its tensors have {most + 1:,} bytes, and the file 1,000"
    )


def test_memory_grows_with_the_bytes_read_up_to_a_bound() -> None:
    budget = MemoryBudget()

    budget.room -= 65 << 20
    assert not budget.grow(10)
    assert budget.grow(1 << 20)
    assert budget.room == (64 + 32 - 65) << 20
    budget.room -= 2 << 30
    assert not budget.grow(1 << 40)


def test_paths_of_modules_have_a_depth_a_length_and_a_number() -> None:
    assert PathBudget().flaw("encoder.layers.11", 200, object()) == ""
    assert PathBudget().flaw("a", 201, object()) == "its modules are nested over 200 deep"
    assert PathBudget().flaw("a" * 5_000, 1, object()).startswith("a name in it has 5,000")
    assert PathBudget(characters=MAX_PATH_CHARACTERS).flaw("a", 1, object()) == (
        f"its paths have over {MAX_PATH_CHARACTERS:,} characters"
    )


def test_shared_modules_have_a_number_of_paths_beyond_their_own() -> None:
    budget, shared, other = PathBudget(), object(), object()

    flaws = {budget.flaw("a", 1, shared) for _ in range(MAX_PATHS + 1)}
    flaws.add(budget.flaw("b", 1, other))

    assert flaws == {""}
    assert budget.flaw("a", 1, shared) == "its shared modules have over 20,000 paths"


def test_model_of_a_file_has_a_number_of_modules() -> None:
    budget = PathBudget(2)
    modules = [object() for _ in range(3)]

    flaws = [budget.flaw("a", 1, module) for module in modules]

    assert flaws == ["", "", "it has over 2 modules"]

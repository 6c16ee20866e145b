"""Texts of inputs: files, and shapes."""

import pytest

from modswap.core.asked.job import is_input_file


@pytest.mark.parametrize(
    ("text", "known"),
    [("x.npy", True), ("a/Photo.JPG:224x224", True), ("1,3,8,8", False), ("auto", False)],
)
def test_input_is_a_file_by_its_ending(text: str, known: bool) -> None:
    assert is_input_file(text) is known

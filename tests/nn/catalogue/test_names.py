"""Other spellings of the catalogue's names, and advice on wrong ones."""

import pytest

from modswap.nn import CATALOGUE
from modswap.nn.catalogue.names import advice, rows_named

OWN = "class of your own is named package.module:Class or file.py:Class"
ROWS = {"Gate": ("CA", "ChannelGate"), "ca": (), "Wide": ("WideGate",)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BiLevelRouting", "did you mean 'BiLevelRoutingAttention'?"),
        ("bilevel", "did you mean 'BiLevelRoutingAttention'?"),
        ("Coord", "did you mean 'CoordinateAttention'?"),
        ("Squeeze", "did you mean 'SEBlock'?"),
        ("Window", "did you mean 'WindowAttention'?"),
        ("MultiHead", "did you mean 'MultiHeadSelfAttention'?"),
        ("SelfAtention", "did you mean 'SelfAttention'?"),
        ("CBM", "did you mean 'CBAM'?"),
        ("EMA", "run `modswap catalogue` to list them"),
        ("ShuffleAttention", "run `modswap catalogue` to list them"),
        ("ac", "run `modswap catalogue` to list them"),
        ("nets.py", "run `modswap catalogue` to list them"),
    ],
)
def test_wrong_name_is_answered_by_the_nearest_and_by_how_to_name_ones_own(
    name: str, expected: str
) -> None:
    assert CATALOGUE.spelled(name) is None
    assert CATALOGUE.advice(name) == expected + (" A " if expected.endswith("?") else "; a ") + OWN


def test_dotted_name_is_answered_by_its_reference() -> None:
    assert CATALOGUE.advice("torch.nn.Conv2d") == "write `torch.nn:Conv2d` if that class is meant"
    assert CATALOGUE.advice("nn.Conv2d") == "write `torch.nn:Conv2d` if that class is meant"
    assert CATALOGUE.advice("nn.Gate") == "write `nn:Gate` if that class is meant"


def test_layer_of_torch_is_answered_by_its_reference() -> None:
    assert CATALOGUE.advice("Linear") == "write `torch.nn:Linear` if torch's layer is meant"


def test_spelling_of_several_rows_is_never_guessed() -> None:
    assert rows_named("c_a", ROWS) == ("Gate", "ca")
    assert advice("c_a", ROWS, "") == "it can mean Gate and ca: write one of these"


def test_beginning_of_several_names_offers_each() -> None:
    assert advice("wid", ROWS, "") == f"did you mean 'Wide'? A {OWN}"
    assert advice("channel", ROWS, "") == f"did you mean 'Gate'? A {OWN}"

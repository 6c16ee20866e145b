"""The sentence of a report on a dummy input that was found."""

from modswap.core.kept.found_input import FoundInput


def test_note_says_what_was_taken_and_why() -> None:
    found = FoundInput("(1, 3, 64, 64)", "as args.imgsz in the file says")

    assert found.note == "no input was given: took (1, 3, 64, 64), as args.imgsz in the file says"

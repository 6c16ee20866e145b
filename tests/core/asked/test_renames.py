"""Renamings of a user: beginnings of names, whole segments, and parts inside names."""

import pytest

from modswap.core.asked.renames import Rename, named_back, parsed_rename, renamed, stripped


@pytest.mark.parametrize(
    ("old", "new", "name", "expected"),
    [
        ("backbone.", "", "backbone.fc.weight", "fc.weight"),
        ("backbone.", "encoder.", "backbone.fc.weight", "encoder.fc.weight"),
        ("backbone", "encoder", "backbone.fc.weight", "encoder.fc.weight"),
        ("backbone", "", "backbone.fc.weight", "fc.weight"),
        ("backbone", "encoder", "backbone2.fc.weight", "backbone2.fc.weight"),
        ("", "backbone.", "fc.weight", "backbone.fc.weight"),
        ("fc.weight", "head.weight", "fc.weight", "head.weight"),
        ("fc.", "head.", "net.fc.weight", "net.fc.weight"),
        (".attention.", ".attn.", "layers.0.attention.q.weight", "layers.0.attn.q.weight"),
        (".attention", ".attn", "layers.0.attention.q.weight", "layers.0.attn.q.weight"),
        (".gamma", ".weight", "norm.gamma", "norm.weight"),
        (".gamma.", ".weight.", "norm.gamma", "norm.weight"),
        (".attention.", ".attn.", "attention.q.weight", "attention.q.weight"),
    ],
)
def test_name_of_the_file_becomes_that_of_the_model(
    old: str, new: str, name: str, expected: str
) -> None:
    assert Rename(old, new).applied(name) == expected


def test_renamings_are_applied_in_turn_and_undone_in_reverse() -> None:
    rules = (stripped("model"), Rename("enc.", "encoder."))

    assert renamed("model.enc.weight", rules) == "encoder.weight"
    assert named_back("encoder.weight", rules) == "model.enc.weight"


def test_name_that_no_way_back_leads_to_stays() -> None:
    assert named_back("a.weight", (Rename("a.", "b."),)) == "a.weight"


@pytest.mark.parametrize("text", ["backbone.", "", "=", "a.=a."])
def test_text_that_renames_nothing_is_none(text: str) -> None:
    assert parsed_rename(text) is None


def test_text_of_a_renaming_is_parsed_and_printed() -> None:
    assert parsed_rename("a.=b.") == Rename("a.", "b.")
    assert Rename("a.", "b.").option() == "--rename 'a.=b.'"
    assert Rename("a.", "").option() == "--strip-prefix a."
    assert Rename("a.", "").option(later=True) == "--rename 'a.='"
    assert stripped("a b.").option() == "--strip-prefix 'a b.'"

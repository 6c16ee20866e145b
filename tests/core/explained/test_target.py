"""What `explain` is called for."""

from pathlib import Path

import pytest

from modswap.core.explained.target import CLASS, FILE, NAME, Target, parse_target

THERE = {"net.pt", "folder", "runs/net.bin", "nets.py", "weights"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ACmix", Target(NAME, "ACmix")),
        ("net.pt", Target(FILE, "net.pt")),
        ("net.pt:layer4.0.conv1", Target(FILE, "net.pt", "layer4.0.conv1")),
        ("folder/:encoder", Target(FILE, "folder/", "encoder")),
        ("runs/net.bin:a", Target(FILE, "runs/net.bin", "a")),
        ("missing.pth:a", Target(FILE, "missing.pth", "a")),
        ("package.module:Class", Target(CLASS, "package.module:Class")),
        ("nets.py:Net", Target(CLASS, "nets.py:Net")),
        ("nets.py:Net(text='net.pt:a')", Target(CLASS, "nets.py:Net(text='net.pt:a')")),
        ("weights", Target(NAME, "weights")),
        ("", Target(NAME, "")),
    ],
)
def test_target_is_a_name_a_place_in_a_file_or_a_class(text: str, expected: Target) -> None:
    found = parse_target(text, lambda path: str(path) in THERE)

    assert found == expected


def test_folder_counts_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()

    assert parse_target("model:encoder") == Target(FILE, "model", "encoder")
    assert parse_target("model2") == Target(NAME, "model2")

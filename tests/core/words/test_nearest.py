"""The right name nearest to a wrong one."""

import time
from pathlib import Path

import pytest

from modswap.core.words.nearest import did_you_mean, file_near, mistyped, nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("exlude", ["match", "exclude", "expect"], ("exclude",)),
        ("blocks.*.atn", ["blocks.0.attn", "blocks.1.mlp"], ("blocks.0.attn",)),
        ("space_atention", ["net.space_attention", "net.stem"], ("net.space_attention",)),
        ("re:blocks\\.\\d\\.atn", ["blocks.0.attn"], ("blocks.0.attn",)),
        ("zzz", ["match", "exclude"], ()),
        ("**", ["a", "b"], ()),
        ("", ["a"], ()),
        ("a", [], ()),
        ("Match", ["match"], ("match",)),
    ],
)
def test_nearest_names_come_first(name: str, known: list[str], expected: tuple[str, ...]) -> None:
    assert nearest(name, known) == expected


def test_names_far_behind_the_best_are_left_out() -> None:
    assert nearest("chek", ["check", "schema"]) == ("check",)


def test_no_more_than_asked_for() -> None:
    assert len(nearest("gate", [f"gate{i}" for i in range(9)], count=2)) == 2


def test_hundred_thousand_paths_are_searched_by_their_last_segment() -> None:
    paths = [f"blocks.{i}.layer{i % 7}" for i in range(100_000)] + ["blocks.7.attn"]
    started = time.process_time()

    assert nearest("blocks.7.atn", paths)[0] == "blocks.7.attn"
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("sed", ["seed"], "did you mean 'seed'?"),
        ("gate", ["gate1", "gate2"], "did you mean 'gate1' or 'gate2'?"),
        ("x", ["seed"], ""),
    ],
)
def test_question_names_what_may_be_meant(name: str, known: list[str], sentence: str) -> None:
    assert did_you_mean(name, known) == sentence


@pytest.mark.parametrize(
    ("name", "expected"),
    [("SEBlok", "did you mean 'SEBlock'?"), ("EMA", ""), ("DoubleAttention", ""), ("SimAM", "")],
)
def test_name_of_another_module_is_no_mistyped_one(name: str, expected: str) -> None:
    assert mistyped(name, ["SEBlock", "ECA", "CBAM", "WindowAttention"]) == expected


def test_file_of_a_folder_that_cannot_be_listed_has_no_near_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swap.yaml").touch()
    assert file_near(tmp_path / "swpa.yaml") == "did you mean 'swap.yaml'?"
    (tmp_path / "net.pt").touch()
    assert file_near(tmp_path / "nte.pth") == "did you mean 'net.pt'?"
    assert file_near(tmp_path / "resnet50.pt") == ""  # the ending alone is alike
    assert file_near(tmp_path / "nets.py") == "did you mean 'net.pt'?"
    assert file_near(tmp_path / "nets.py", of_kind=True) == ""

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # tests may run as root, who may list all
    assert file_near(tmp_path / "swpa.yaml") == ""

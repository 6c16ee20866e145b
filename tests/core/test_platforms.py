"""Windows is refused in words, by the command and by the package."""

import sys

import pytest

import modswap
from modswap import __main__
from modswap.core import platforms


def test_linux_and_macos_are_not_refused() -> None:
    assert platforms.refusal() == ""


def test_windows_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platforms, "SYSTEM", "nt")
    monkeypatch.setattr(sys, "argv", ["modswap", "--help"])

    with pytest.raises(SystemExit) as end:
        __main__.main()

    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith("error: modswap runs on Linux and macOS: Windows lacks")
    with pytest.raises(ImportError, match=r"run it in WSL"):
        modswap.load  # noqa: B018 - the look-up raises

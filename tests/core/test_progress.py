"""Reports of progress."""

import pytest

from modswap.core.progress import silent


def test_silent_progress_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent("loading")

    assert capsys.readouterr() == ("", "")

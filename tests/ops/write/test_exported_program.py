"""Archives of torch.export are compared before they take their place."""

from pathlib import Path

import pytest

from modswap.core.errors import ShapeError
from tests.io.formats.exported.test_load import archive, seeded, swap
from tests.models import GatedNet


@pytest.mark.ci
@pytest.mark.slow
def test_written_archive_is_compared_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = archive(tmp_path / "net.pt2", seeded(GatedNet))
    monkeypatch.setattr("modswap.ops.write.exported_program.distance", lambda *_: 0.5)

    outcome = swap(file, tmp_path / "out.pt2")

    assert isinstance(outcome.error, ShapeError)
    assert "0.5 apart" in outcome.error.what
    assert not (tmp_path / "out.pt2").exists()

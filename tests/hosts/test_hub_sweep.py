"""The architectures of transformers that loaded when the table was made load still."""

from pathlib import Path

import pytest

from tests.hosts.hub_sweep import architectures, tried

TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "hub-folders.txt"
LOADED = [
    line.split()[0] for line in TABLE.read_text().splitlines() if line.split()[1:2] == ["loads"]
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LOADED)
def test_architecture_loads(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="it is not installed (extra: hosts)")
    kinds = {model: kind for kind, model in architectures()}
    if name not in kinds:
        pytest.skip("this version of transformers does not have it")

    row = tried(kinds[name], name, tmp_path / "net")

    assert row.verdict in {"loads", "not built"}, row.why

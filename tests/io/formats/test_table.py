"""The table of formats: one row is all that a further format needs.

Covers: format, choice, reading, writing, outline.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import modswap
from modswap.cli.app import run
from modswap.core.asked.job import Policy
from modswap.io import formats
from modswap.io.formats.container import Container, find_slots
from modswap.io.formats.format import Format
from modswap.io.formats.survey import Survey, WeightSizes
from modswap.io.recognise.implied_tree import TensorSize
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Records
from tests.models import build_gated

RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 8, 8]}]
replace: [{match: channel_attention, with: ECA, args: {channel: 16}}]
"""
FACTORY = ("--model", "tests.models:build_gated")


def is_notes(look: Look) -> bool:
    return look.head.startswith(b'{"notes": ')


def entries(look: Look) -> dict[str, Any]:
    return dict(json.loads(look.file.read_text(encoding="utf-8"))["notes"])


def load_notes(look: Look, policy: Policy) -> Container:
    weights = {name: torch.tensor(value) for name, value in entries(look).items()}
    return Container("notes", look.file, weights, find_slots(weights, look.file))


def save_notes(payload: Any, file: Path, records: Records, metadata: dict[str, str]) -> None:
    values = {name: tensor.tolist() for name, tensor in payload.items()}
    file.write_text(json.dumps({"notes": values}), encoding="utf-8")


def sizes(look: Look) -> WeightSizes:
    counts = {name: torch.tensor(value).numel() for name, value in entries(look).items()}
    held = {name: TensorSize(count, 4 * count) for name, count in counts.items()}
    return WeightSizes("notes", held)


def survey_notes(look: Look) -> Survey:
    return sizes(look).survey(None)


NOTES = Format(
    name="notes",
    recognise=is_notes,
    load=load_notes,
    save=save_notes,
    outline=lambda look: sizes(look).tree(look.file),
    survey=survey_notes,
    endings=(".notes",),
    weights_only=True,
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of a format that is one further row of the table."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, NOTES))
    monkeypatch.chdir(tmp_path)
    Path("swap.yaml").write_text(RECIPE, encoding="utf-8")
    file = tmp_path / "net.notes"
    save_notes(build_gated().state_dict(), file, Records(), {})
    return file


def test_tree_reads_a_format_that_was_added(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tree", str(file)]) == 0
    assert "channel_attention" in capsys.readouterr().out


def test_check_reads_a_format_that_was_added(file: Path) -> None:
    assert run(["check", str(file), "-c", "swap.yaml", *FACTORY]) == 0


def test_load_reads_a_format_that_was_added(file: Path) -> None:
    model = modswap.load(file, "tests.models:build_gated")

    kept = torch.tensor(entries(Look(file, b"", 0))["stem.weight"])
    assert torch.equal(model.get_parameter("stem.weight"), kept)


def test_replace_writes_a_format_that_was_added(file: Path) -> None:
    out = file.with_name("out.notes")

    assert run(["replace", str(file), "-c", "swap.yaml", *FACTORY, "-o", str(out)]) == 0
    names = entries(Look(out, b"", 0)).keys()
    assert "stem.weight" in names
    assert [n for n in names if n.startswith("channel_attention.")] == [
        "channel_attention.conv.weight"
    ]


def test_an_ending_converts_to_a_format_that_was_added(file: Path, tmp_path: Path) -> None:
    torch.save(build_gated().state_dict(), tmp_path / "net.pt")
    out = tmp_path / "out.notes"

    assert (
        run(["replace", str(tmp_path / "net.pt"), "-c", "swap.yaml", *FACTORY, "-o", str(out)]) == 0
    )
    assert "stem.weight" in entries(Look(out, b"", 0))


def test_a_format_without_rewriting_is_not_swapped_as_data(file: Path) -> None:
    out = file.with_name("out.notes")

    assert not NOTES.code_free
    assert run(["replace", str(file), "-c", "swap.yaml", "--no-forward", "-o", str(out)]) == 3


def test_the_table_recognises_and_outlines_without_torch(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "net.pt")
    code = (
        "import sys; from pathlib import Path; from modswap.io.formats.outline import outline; "
        f"assert outline(Path({str(tmp_path / 'net.pt')!r})); assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)

"""`modswap verify`, and replace on files that it refuses.

Covers: commands.verify.
"""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from modswap.cli.app import run
from tests.io.formats.safetensors.written import flip, write

RECIPE = "version: 1\nreplace: [{match: a, with: SEBlock, layout: NCHW, args: {channel: 64}}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("net.safetensors"))
    Path("bad.safetensors").write_bytes(Path("net.safetensors").read_bytes())
    flip(Path("bad.safetensors"), "b.weight")
    Path("swap.yaml").write_text(RECIPE)


def digest(name: str) -> str:
    return sha256(Path(name).read_bytes()).hexdigest()


def test_equal_file_ends_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "net.safetensors"]) == 0
    assert capsys.readouterr() == (
        "compared  4 tensors, 1.2 KiB, by CRC-32\nOK  net.safetensors is equal\n",
        "",
    )


def test_quiet_prints_nothing_unless_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "net.safetensors", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run(["verify", "bad.safetensors", "-q"]) == 1
    assert "tensor 'b.weight' in bad.safetensors" in capsys.readouterr().out


def test_missing_file_ends_with_three(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "none.pt"]) == 3
    assert "error: none.pt: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("bad.safetensors", 1), ("swap.yaml", 3)])
def test_report_is_one_json_object(name: str, code: int) -> None:
    assert run(["verify", name, "--format", "json", "--report", "r.json"]) == code

    data = json.loads(Path("r.json").read_text())
    assert data["ok"] is False
    assert (data["error"] is None) == (code == 1)


def test_sha256_is_compared_where_it_is_given() -> None:
    assert run(["verify", "net.safetensors", "--digest", digest("net.safetensors")]) == 0
    assert run(["verify", "net.safetensors", "--digest", digest("bad.safetensors")]) == 1
    assert run(["verify", "net.safetensors", "--digest", "none.txt"]) == 3


def test_unknown_form_is_a_usage_error() -> None:
    assert run(["verify", "net.safetensors", "--format", "junit"]) == 2


def replace(name: str, *args: str) -> int:
    return run(["replace", name, "-c", "swap.yaml", "-o", "out.safetensors", "--no-forward", *args])


def test_replace_refuses_a_flipped_bit(capsys: pytest.CaptureFixture[str]) -> None:
    assert replace("bad.safetensors") == 3
    assert "its tensor 'b.weight' is damaged" in " ".join(capsys.readouterr().out.split())
    assert not Path("out.safetensors").exists()
    assert replace("bad.safetensors", "--no-checksum") == 0
    assert run(["verify", "out.safetensors"]) == 1


def test_replace_writes_digests() -> None:
    assert replace("net.safetensors") == 0
    assert run(["verify", "out.safetensors"]) == 0


def test_replace_refuses_a_file_with_another_sha256(capsys: pytest.CaptureFixture[str]) -> None:
    assert replace("net.safetensors", "--digest", digest("bad.safetensors")) == 3
    assert "its SHA-256 is" in " ".join(capsys.readouterr().err.split())
    assert not Path("out.safetensors").exists()
    assert replace("net.safetensors", "--digest", digest("net.safetensors")) == 0

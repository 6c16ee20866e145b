"""A checkpoint is compared with the checksums in it and with given SHA-256, without torch."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Amount
from modswap.io.formats.safetensors.digests import STALE
from modswap.ops.jobs import verify
from modswap.ops.jobs.verify import NOTHING, require_digest, verify_file
from tests.io.formats.safetensors.written import WEIGHTS, flip, write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    torch.save({"layer": torch.arange(99.0)}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def damaged(file: Path) -> Path:
    data = bytearray(file.read_bytes())
    data[data.index(torch.arange(99.0).numpy().tobytes()) + 40] ^= 1
    file.write_bytes(data)
    return file


def test_sound_file_is_equal(file: Path) -> None:
    found = verify_file(file)

    assert (found.ok, found.exit_code, found.error) == (True, 0, None)
    assert found.parts == Amount(4, 1200 + 14 + 8)
    assert (found.format, found.unknown, found.files) == ("safetensors", 0, Amount())


def test_flipped_bit_names_its_tensor(file: Path) -> None:
    flip(file, "b.weight", 7)

    found = verify_file(file)

    (one,) = found.unequal
    assert (found.exit_code, found.error) == (1, None)
    assert (one.file, one.kind, one.name) == (str(file), "tensor", "b.weight")
    assert one.algorithm == "CRC-32"
    assert one.expected != one.found


def test_flipped_bit_in_a_zip_names_record_and_tensor(zipped: Path) -> None:
    assert verify_file(zipped).exit_code == 0

    found = verify_file(damaged(zipped))

    (one,) = found.unequal
    assert (one.kind, one.name, one.tensors) == ("record", "net/data/0", "layer")


@pytest.mark.parametrize("name", ["plain.safetensors", "legacy.pt", "unsummed.pt"])
def test_nothing_to_compare_with_is_no_success(name: str, tmp_path: Path) -> None:
    if name == "plain.safetensors":
        save_file(WEIGHTS, tmp_path / name)
    elif name == "legacy.pt":
        torch.save(WEIGHTS, tmp_path / name, _use_new_zipfile_serialization=False)
    else:
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(WEIGHTS, tmp_path / name)
        finally:
            torch.serialization.set_crc32_options(True)

    found = verify_file(tmp_path / name)

    assert found.exit_code == 3
    assert found.error is not None
    assert found.error.what == NOTHING
    assert found.notes == (NOTHING,)
    assert verify_file(tmp_path / name, digest(tmp_path / name)).exit_code == 0


def test_digests_that_another_program_left_have_a_note(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file(WEIGHTS, file, metadata)

    found = verify_file(file)

    assert (found.exit_code, found.notes) == (0, (STALE,))


@pytest.mark.parametrize(
    ("name", "words"), [("none.pt", "no such file"), ("text.pt", "it is a text file"), (".", "no")]
)
def test_unreadable_file_is_an_error(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello\n")

    found = verify_file(tmp_path / name)

    assert found.exit_code == 3
    assert words in str(found.error)


@pytest.mark.parametrize("cut", [1, 600, 1300])
def test_file_that_is_cut_short_is_an_error(cut: int, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-cut])

    assert verify_file(file).exit_code == 3


def test_file_that_cannot_be_opened_any_more_is_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(verify, "differences", gone)

    assert "it cannot be read: No such file or directory" in str(verify_file(file).error)


def test_sha256_is_compared_as_well(zipped: Path) -> None:
    wanted = digest(zipped)
    found = verify_file(zipped, wanted)
    assert (found.exit_code, found.files.tensors) == (0, 1)
    assert found.files.nbytes == zipped.stat().st_size

    found = verify_file(damaged(zipped), wanted)

    assert found.exit_code == 1
    assert [(one.kind, one.name, one.algorithm) for one in found.unequal] == [
        ("file", "net.pt", "SHA-256"),
        ("record", "net/data/0", "CRC-32"),
    ]


def test_file_of_an_unknown_format_is_compared_by_its_sha256_alone(tmp_path: Path) -> None:
    (tmp_path / "net.gguf").write_bytes(b"GGUF1234")

    found = verify_file(tmp_path / "net.gguf", digest(tmp_path / "net.gguf"))

    assert found.exit_code == 0
    assert found.notes == ("only its SHA-256 was compared: it is a GGUF file",)


def test_list_that_names_no_such_file_is_an_error(zipped: Path, tmp_path: Path) -> None:
    (tmp_path / "SUMS").write_text(f"{'0' * 64}  other.pt\n")

    found = verify_file(zipped, str(tmp_path / "SUMS"))

    assert found.exit_code == 3
    assert "it names no 'net.pt'" in str(found.error)


def test_folder_is_compared_file_by_file(file: Path) -> None:
    folder = file.parent
    file.rename(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    lines = [f"{digest(one)}  {one.name}\n" for one in sorted(folder.iterdir())]
    (folder / "SUMS").write_text("".join(lines))
    found = verify_file(folder, str(folder / "SUMS"))
    assert (found.exit_code, found.files.tensors, found.parts.tensors) == (0, 2, 4)

    (folder / "config.json").write_text("[]")

    (one,) = verify_file(folder, str(folder / "SUMS")).unequal
    assert (one.kind, one.name) == ("file", "config.json")
    (folder / "config.json").unlink()
    assert verify_file(folder, str(folder / "SUMS")).exit_code == 3


def test_progress_is_shown_for_every_step(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_STEP_BYTES", 500)
    lines: list[str] = []

    verify_file(file, digest(file), lines.append)

    assert len(lines) >= 2
    assert all(line.startswith("compared 0.0 of 0.0 GiB") for line in lines)


def test_required_digest_refuses_another_file(zipped: Path) -> None:
    wanted = digest(zipped)
    require_digest(zipped, wanted)

    with pytest.raises(CheckpointError, match=rf"net\.pt: its SHA-256 is .*, expected {wanted}"):
        require_digest(damaged(zipped), wanted)


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_no_flipped_bit_of_a_safetensors_file_passes(step: int, file: Path) -> None:
    sound = file.read_bytes()
    passed = []

    for place in range(0, len(sound), step):
        data = bytearray(sound)
        data[place] ^= 1 << place % 8
        file.write_bytes(data)
        if verify_file(file).exit_code not in {1, 3}:
            passed.append(place)

    assert passed == []


def test_no_torch_is_imported(file: Path, zipped: Path) -> None:
    program = (
        "import sys\n"
        "from modswap.cli.app import run\n"
        "codes = [run(['verify', name]) for name in sys.argv[1:]]\n"
        "assert codes == [0, 0], codes\n"
        "assert 'torch' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(file), str(zipped)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr

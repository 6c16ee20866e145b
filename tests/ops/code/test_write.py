"""Changed source that is written into the user's files."""

import subprocess
from pathlib import Path

import pytest

import modswap
from modswap.core.errors import CheckpointError
from modswap.core.kept.code_change import FileChange, WrittenFile
from modswap.ops.code.write import write_changes


def test_old_text_is_kept_unless_git_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.py"
    file.write_text("old\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    first = write_changes([FileChange(str(file), b"old\n", b"new\n", "utf-8")])
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "net.py"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    second = write_changes([FileChange(str(file), b"new\n", b"newer\n", "utf-8")])
    third = write_changes([FileChange(str(file), b"newer\n", b"newest\n", "utf-8")])

    assert first == (WrittenFile(str(file), f"{file}.orig"),)
    assert second == (WrittenFile(str(file), ""),)
    assert third == (WrittenFile(str(file), f"{file}.orig2"),)  # git has an older one
    assert Path(f"{file}.orig2").read_text() == "newer\n"
    assert file.read_text() == "newest\n"


def test_without_git_the_old_text_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "net.py").write_text("old\n")

    (one,) = write_changes([FileChange(str(tmp_path / "net.py"), b"old\n", b"new\n", "utf-8")])

    assert one.copy.endswith("net.py.orig")


def test_file_of_modswap_is_not_written() -> None:
    own = str(Path(modswap.__file__).parent / "ops" / "demo" / "network.py")

    with pytest.raises(CheckpointError, match="it is a file of modswap itself"):
        write_changes([FileChange(own, b"", b"", "utf-8")])

"""Lists of SHA-256, as the tools of several systems write them."""

import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io import sha256_list
from modswap.io.sha256_list import expected_digests, sha256_of

A, B = "ab" * 32, "0" * 63 + "f"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"net")
    return Path("net.pt")


@pytest.mark.parametrize(
    "text",
    [
        f"{A}  net.pt\n",
        f"{A} *net.pt\n",
        f"{A}  ./net.pt",
        f"{A}  dist/v1/net.pt",
        f"{A} *C:\\models\\net.pt\r\n",
        f"SHA256 (net.pt) = {A}\n",
        f"SHA256(net.pt)= {A}\n",
        f"SHA2-256(net.pt)= {A}\n",
        A,
        f"{A}\n",
        f"  {A}  \r\n",
        f"sha256:{A}",
        A.upper(),
        f"\ufeff{A}  net.pt",
        f"# made by hand\n\n{B}  other.pt\n{A}  net.pt\n{B}  net.pt.bak\n",
        f"MD5 (net.pt) = {'0' * 32}\nSHA256 (net.pt) = {A}\n",
        f"{'1' * 128}  net.pt\n{A}  net.pt\n",
        f"{A}  net.pt\n{A}  copy/net.pt\n",
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{A}\nsize 3\n",
    ],
)
def test_line_of_the_file_is_found(text: str, file: Path) -> None:
    Path("SUMS").write_text(text, encoding="utf-8", newline="")

    assert expected_digests("SUMS", file) == {file: A}


def test_list_in_utf_16_is_read(file: Path) -> None:
    Path("SUMS").write_text(f"{A}  net.pt\n", encoding="utf-16")

    assert expected_digests("SUMS", file) == {file: A}


@pytest.mark.parametrize("given", [A, f"sha256:{A}", f" {A.upper()}\n"])
def test_digest_may_be_given_itself(given: str, file: Path) -> None:
    assert expected_digests(given, file) == {file: A}


@pytest.mark.parametrize("name", ["a\\b.pt", "a\nb.pt"])
def test_name_that_sha256sum_escapes_is_read(name: str, file: Path) -> None:
    (file.parent / "odd").mkdir()
    escaped = name.replace("\\", r"\\").replace("\n", r"\n")
    Path("SUMS").write_text(f"\\{A}  {escaped}\n", newline="")

    assert expected_digests("SUMS", Path("odd")) == {
        Path("odd", *name.replace("\\", "/").split("/")): A
    }


def test_every_file_of_a_folder_is_named(file: Path) -> None:
    Path("out/sub").mkdir(parents=True)
    Path("out/a").write_bytes(b"a")
    Path("SUMS").write_text(f"{A}  a\n{B}  ./sub/b\n{A}  out/a\n")

    assert expected_digests("SUMS", Path("out")) == {Path("out/a"): A, Path("out/sub/b"): B}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "SUMS: it holds no SHA-256"),
        (f"{'1' * 40}  net.pt\n", "it holds no SHA-256"),
        (f"{A}  nat.pt\n", "it names no 'net.pt'; did you mean 'nat.pt'?"),
        (f"{A}  net.pt\n{B}  net.pt\n", "it holds 2 different SHA-256 for 'net.pt'"),
        (f"{A}\n{B}\n", "it holds 2 different SHA-256 for 'net.pt'"),
    ],
)
def test_list_without_one_digest_for_the_file_is_refused(
    text: str, message: str, file: Path
) -> None:
    Path("SUMS").write_text(text)

    with pytest.raises(CheckpointError, match=re.escape(message)):
        expected_digests("SUMS", file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../net.pt", "it names '../net.pt', which is no file of the folder 'out'"),
        ("/etc/passwd", "it names '/etc/passwd', which is no file of the folder"),
        (f"a\n{B}  a", "it holds two different SHA-256 for 'a'"),
    ],
)
def test_list_that_leaves_the_folder_or_contradicts_itself_is_refused(
    name: str, message: str, file: Path
) -> None:
    Path("out").mkdir()
    Path("SUMS").write_text(f"{A}  {name}\n")

    with pytest.raises(CheckpointError, match=re.escape(message)):
        expected_digests("SUMS", Path("out"))


def test_bare_digest_of_a_folder_is_refused(file: Path) -> None:
    Path("out").mkdir()

    with pytest.raises(
        CheckpointError, match="it is the SHA-256 of one file, and 'out' is a folder"
    ):
        expected_digests(A, Path("out"))


@pytest.mark.parametrize("kind", ["missing", "binary", "pipe", "folder", "large"])
def test_list_that_is_no_small_text_is_refused(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "binary":
        Path("SUMS").write_bytes(b"\x80\x81")
    elif kind == "pipe":
        os.mkfifo("SUMS")
    elif kind == "folder":
        Path("SUMS").mkdir()
    elif kind == "large":
        monkeypatch.setattr(sha256_list, "MAX_LIST_BYTES", 10)
        Path("SUMS").write_text(A)

    words = {
        "missing": "no such file", "binary": "it is no text", "pipe": "it is a pipe",
        "folder": "it is a folder", "large": "too large",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match=words[kind]):
        expected_digests("SUMS", file)


def test_sha256_of_a_file_is_read_in_blocks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sha256_list, "_BLOCK_BYTES", 2)
    read: list[int] = []

    assert sha256_of(file, read.append) == sha256(b"net").hexdigest()
    assert read == [2, 1]


def test_only_regular_files_are_read(file: Path) -> None:
    os.mkfifo("pipe")

    for name, words in [("pipe", "a pipe"), (".", "a folder"), ("none", "no such file")]:
        with pytest.raises(CheckpointError, match=words):
            sha256_of(Path(name))
    with pytest.raises(CheckpointError, match="it cannot be read"):
        sha256_of(Path("a\0b"))

"""Files that are something else, or nothing."""

import io
import os
import pickle
import tarfile
from pathlib import Path

from tests.io.corpus.case import Case
from tests.io.corpus.raw import Entry, torch_zip, zipped


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return stream.getvalue()


def _ring(folder: Path) -> None:
    (folder / "net.pt").symlink_to("net.pt")


def _folder_of_junk(folder: Path) -> None:
    (folder / "net.pt").mkdir()
    (folder / "net.pt" / "readme").write_text("nothing")


def _long_index(folder: Path) -> None:
    (folder / "net.pt").mkdir()
    (folder / "net.pt" / "model.safetensors.index.json").write_text("[" * 100_000)


def _index_outside(folder: Path) -> None:
    (folder / "net.pt").mkdir()
    (folder / "net.pt" / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../../../etc/passwd"}}'
    )


def _zip(*names: str) -> bytes:
    return zipped([Entry(name, b"x") for name in names])


WHOLE = torch_zip()
CASES = (
    Case("empty", b"", "it is empty"),
    Case("one zero byte", b"\0", "of no known format"),
    Case("zeros", bytes(4096), "of no known format"),
    Case("text", b"hello\nworld\n", "a text file that begins 'hello'"),
    Case("text that would move the cursor", b"\x1b[2Jhello\n", "error: net.pt: it is"),
    Case("web page", b"<!DOCTYPE html><html>", "it is a web page"),
    Case("git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    Case("JSON", b'{"error": "rate limit"}', "a text file that begins"),
    Case("gzip", b"\x1f\x8b\x08\0\0\0", "it is compressed (gzip)"),
    Case("xz", b"\xfd7zXZ\0\0", "it is compressed (xz)"),
    Case("bzip2", b"BZh91AY", "it is compressed (bzip2)"),
    Case("zstd", b"\x28\xb5\x2f\xfd\0", "it is compressed (zstd)"),
    Case("7z", b"7z\xbc\xaf\x27\x1c", "it is compressed (7z)"),
    Case("tar", _tar(), "it is a tar archive"),
    Case("GGUF", b"GGUF\x03\0\0\0", "it is a GGUF file"),
    Case("HDF5", b"\x89HDF\r\n\x1a\n\0\0", "it is an HDF5 file (Keras)"),
    Case("NumPy array", b"\x93NUMPY\1\0", "it is a NumPy array"),
    Case("NumPy archive", _zip("a.npy"), "it is a NumPy archive"),
    Case("Keras archive", _zip("config.json", "model.weights.h5"), "it is a Keras archive"),
    Case("TorchScript", _zip("net/data.pkl", "net/constants.pkl"), "it is a TorchScript archive"),
    Case("exported program", _zip("net/archive_format"), "it is a torch.export archive"),
    Case("TorchServe archive", _zip("MAR-INF/MANIFEST.json", "net.pt"), "a TorchServe archive"),
    Case("ExecuTorch program", b"\x1c\0\0\0ET12\0\0", "it is an ExecuTorch program"),
    Case("XML", b"<?xml version='1.0'?><net/>", "it is an XML file"),
    Case("ONNX", b"\x08\x07\x12\x07pytorch\x1a\0\xff", "it is an ONNX model"),
    Case("TensorFlow checkpoint", b"model_checkpoint_path: 'x'\n", "a TensorFlow model"),
    Case("TensorFlow index", bytes(40) + bytes.fromhex("57fb808b247547db"), "a TensorFlow model"),
    Case("TensorFlow Lite", b"\x1c\0\0\0TFL3\0\0", "a TensorFlow model"),
    Case("zip of something else", _zip("readme"), "none that torch.save wrote"),
    Case("zip without entries", b"PK\5\6" + bytes(18), "of no known format"),
    *(
        Case(f"plain pickle of protocol {n}", pickle.dumps({"a": 1}, n), f"a pickle (protocol {n})")
        for n in (2, 3, 4, 5)
    ),
    Case("plain pickle of protocol 0", pickle.dumps({"a": 1}, 0), "error: net.pt: it is"),
    Case("pipe", lambda folder: os.mkfifo(folder / "net.pt"), "it is a pipe"),
    Case("device", lambda folder: (folder / "net.pt").symlink_to("/dev/zero"), "it is a device"),
    Case("link to itself", _ring, "it cannot be read"),
    Case("link to nothing", lambda f: (f / "net.pt").symlink_to("none"), "no such file"),
    Case("nothing there", lambda folder: None, "no such file"),
    Case("empty folder", lambda folder: (folder / "net.pt").mkdir(), "it is a folder"),
    Case("folder of something else", _folder_of_junk, "it is a folder"),
    Case("folder with an index nested too deep", _long_index, "index"),
    Case("folder with an index that leads outside", _index_outside, "etc/passwd"),
    *(
        Case(f"cut to {cut} bytes", WHOLE[:cut], "error: net.pt: it is")
        for cut in (3, 4, 30, 100, len(WHOLE) // 2, len(WHOLE) - 100, len(WHOLE) - 1)
    ),
)

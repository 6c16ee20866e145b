"""The diff of a change of source, and its summary."""

from dataclasses import replace
from pathlib import Path

import pytest

from modswap.core.kept.code_change import (
    CodeChange,
    FileChange,
    SiteChange,
    StandaloneFile,
    WrittenFile,
)
from modswap.report.code.diff import (
    host_summary,
    standalone_lines,
    summary,
    unified,
    written_lines,
)

SITES = (
    SiteChange("a", "call", "net.py", 3),
    SiteChange("b", "line", "net.py", 1, ("channel=8",)),
)


def change(file: str, before: str, after: str, encoding: str = "utf-8") -> CodeChange:
    one = FileChange(file, before.encode(encoding), after.encode(encoding), encoding)
    return CodeChange((one,), SITES, "net:Net()", 0.0, 4, ("an input was found",))


def test_diff_names_files_as_patch_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    inside = unified(
        change(str(tmp_path / "net.py"), "a\nb\x0cc\r\nü\n", "a\nb\x0cd\r\nü\n", "latin-1")
    )
    outside = unified(change("/elsewhere/net.py", "a", "b"))

    assert inside == ("--- a/net.py\n+++ b/net.py\n@@ -1,3 +1,3 @@\n a\n-b\x0cc\r\n+b\x0cd\r\n ü\n")
    assert outside == (
        "--- /elsewhere/net.py\n+++ /elsewhere/net.py\n@@ -1 +1 @@\n"
        "-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n"
    )


def test_summary_names_places_and_what_was_proved() -> None:
    assert summary(change("net.py", "", "")) == (
        "a  net.py:3  the call is replaced\n"
        "b  net.py:1  a line is added; written as observed: channel=8\n"
        "note  an input was found\n"
        "OK  2 sites in 1 file: net:Net() of the changed source builds the swapped model in a "
        "fresh process; 4 modules of equal classes, outputs 0 apart\n"
    )


def test_summary_names_the_checkpoint_that_was_written() -> None:
    assert "\nwritten  out.pt\nOK  " in summary(replace(change("net.py", "", ""), written="out.pt"))


def test_written_files_name_their_old_text() -> None:
    files = (WrittenFile("a.py", "a.py.orig"), WrittenFile("b.py", ""))

    assert written_lines(files) == (
        "written  a.py, its old text is a.py.orig\nwritten  b.py, its old text is in git\n"
    )


def test_standalone_file_and_lines_say_what_was_proved() -> None:
    made = StandaloneFile("a\n" * 1200, 1e-7, ("kernels are left out",))

    assert standalone_lines(made, "model.py") == (
        "note  kernels are left out\nwritten  model.py, 1,200 lines\n"
        "OK  its `load(file)` gives the swapped model in a process without modswap, "
        "outputs 1e-07 apart\n"
    )
    assert host_summary(made, "timm").endswith("of timm in a fresh process, outputs 1e-07 apart")

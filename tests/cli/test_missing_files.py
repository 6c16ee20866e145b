"""Names that no file has: every command answers them at once, before torch is imported.

Covers: options.
"""

import subprocess
import sys
from pathlib import Path

RECIPE = "version: 1\ncheckpoint: gone.pt\nreplace: [{match: a, with: SelfAttention}]\n"
CALLS = (
    "check gone.pt -c swap.yaml",
    "check swap.yaml",
    "replace gone.pt -c swap.yaml -o out.pt",
    "heal gone.pt --data none --against old.pt -o out.pt",
    "finalize gone.pt -o out.pt",
    "revert gone.pt -o out.pt",
    "init gone.pt",
    "tree gone.pt",
    "code gone.pt -c swap.yaml",
    "explain gone.pt",
    "sweep gone.pt --match a --with SelfAttention --data none",
    "verify gone.pt",
    "diff gone.pt gone.pt",
)
# the file is there, and something else is not, or may not be written
HERE = (
    "check here.pt -c gone.yaml",
    "replace here.pt -c gone.yaml -o out.pt",
    "replace here.pt -c swap.yaml -o nowhere/out.pt",
    "replace here.pt -c swap.yaml -o here.pt --force",
    "replace here.pt -c swap.yaml -o gone.pth",
    "replace here.pt -c swap.yaml -o out.pt --heal pictures",
    "heal here.pt --data none --against gone.pt -o out.pt",
    "heal here.pt --data pictures --against gone.pth -o out.pt",
    "heal here.pt --data none --against gone.pth -o gone.pth --force",
    "sweep here.pt --match a --with SelfAttention --data pictures",
    "finalize here.pt -o here.pt",
    "revert here.pt -o nowhere/out.pt",
)
PROGRAM = """
import sys
from modswap.cli.app import run
for call in sys.argv[1:]:
    code = run(call.split())
    print(call, '->', code, 'torch was imported' if 'torch' in sys.modules else '')
"""


def test_missing_file_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "swap.yaml").write_text(RECIPE)
    (tmp_path / "gone.pth").write_text("a name that is near")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *CALLS],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    ends = [line for line in done.stdout.splitlines() if " -> " in line]
    assert ends == [f"{call} -> 3 " for call in CALLS], done.stderr
    assert done.stderr.count("did you mean 'gone.pth'?") >= len(CALLS) - 1


def test_other_paths_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "swap.yaml").write_text(RECIPE)
    for name in ("here.pt", "gone.pth"):
        (tmp_path / name).write_text("not read")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HERE],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    ends = [line for line in done.stdout.splitlines() if " -> " in line]
    assert ends == [f"{call} -> 3 " for call in HERE], done.stderr
    assert done.stderr.count("fix: ") == len(HERE)

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

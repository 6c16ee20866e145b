"""The import contracts in pyproject.toml: each fails for an import that it forbids."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
# a contract, a file, and a line that breaks the contract there
BREACHES = (
    ("imports point one way", "report/table.py", "import modswap.ops.swap"),
    ("imports point one way", "nn/eca.py", "import modswap.io.lock"),
    ("imports point one way", "utils/__init__.py", ""),  # a folder without a layer
    ("core is plain Python", "core/decided/plan.py", "import torch"),
    ("only the edges talk to the terminal or parse YAML", "ops/swap.py", "import rich"),
    ("a report needs no tensors", "report/table.py", "import torch"),
    ("the steps of ops follow the flow", "ops/trace/passes.py", "import modswap.ops.swap"),
    ("the steps of ops follow the flow", "ops/build/fit.py", "import modswap.ops.trace.passes"),
    ("the steps of ops follow the flow", "ops/extra.py", ""),  # a file without a step
    ("an examination knows no other", "ops/examine/cost.py", "import modswap.ops.examine.limits"),
    ("an examination knows no other", "ops/examine/new.py", "import modswap.ops.examine.cost"),
    (
        "an examination knows no other",
        "ops/examine/alone/sites.py",
        "import modswap.ops.examine.finite",
    ),
    ("formats stand on bytes and pickles", "io/raw/extent.py", "import modswap.io.pickled.data"),
    (
        "formats that hold others stand above them",
        "io/formats/torch/load.py",
        "import modswap.io.formats.folder.load",
    ),
    ("files are recognised and outlined without torch", "io/pickled/data.py", "import torch"),
    ("files are recognised and outlined without torch", "io/formats/__init__.py", "import torch"),
    (
        "files are recognised and outlined without torch",
        "io/formats/torch/outline.py",
        "import torch",
    ),
    ("sizes are fitted without torch", "nn/fit/sizes.py", "import torch"),
    (
        "what is kept stands on what was decided, asked and seen",
        "core/seen/site.py",
        "import modswap.core.kept.outcome",
    ),
    ("nobody imports the package's root", "core/errors.py", "import modswap"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the package and its settings."""
    folder = tmp_path_factory.mktemp("contracts")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "modswap", folder / "modswap", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken_contracts(folder: Path) -> set[str]:
    """Return the names of the contracts that do not hold in a copy."""
    call = [str(LINT_IMPORTS), "--no-logo", "--cache-dir", str(folder / "cache")]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    broken = {line.partition(" BROKEN")[0] for line in lines if " BROKEN" in line}
    assert done.returncode == (1 if broken else 0), done.stdout + done.stderr
    return broken


def test_the_package_keeps_every_contract(copy: Path) -> None:
    assert broken_contracts(copy) == set()


def test_every_contract_has_a_breach_that_is_tried() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]

    assert {contract["name"] for contract in contracts} == {name for name, _, _ in BREACHES}


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("contract", "file", "line"), BREACHES)
def test_a_forbidden_import_breaks_its_contract(
    contract: str, file: str, line: str, copy: Path
) -> None:
    target = copy / "modswap" / file
    before = target.read_bytes() if target.exists() else None
    target.parent.mkdir(exist_ok=True)

    try:
        target.write_bytes((before or b"") + f"\n{line}\n".encode())
        assert contract in broken_contracts(copy)
    finally:
        if before is None:
            target.unlink()
        else:
            target.write_bytes(before)

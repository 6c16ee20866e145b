"""The imports of the folder: no tensors."""

import subprocess
import sys
from pathlib import Path

import modswap.core

PACKAGE = Path(modswap.core.__file__).parent


def test_no_module_of_core_imports_torch() -> None:
    files = [file.relative_to(PACKAGE.parent.parent) for file in PACKAGE.rglob("*.py")]
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; "
    code += "print(sorted({'torch', 'typer', 'rich', 'yaml'} & sys.modules.keys()))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert len(names) > 30
    assert done.stdout.strip() == "[]"

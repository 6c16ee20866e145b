"""Files are recognised, read as data and outlined in a process that has not imported torch."""

import pkgutil
import subprocess
import sys

import modswap.io.formats
import modswap.io.pickled
import modswap.io.raw
import modswap.io.recognise


def modules() -> list[str]:
    """Return the names of all modules that need no torch."""
    names = ["modswap.io.lock", "modswap.io.rewriting", "modswap.io.recipe.reader"]
    for package in (modswap.io.raw, modswap.io.recognise, modswap.io.pickled):
        found = pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        names += [module.name for module in found]
    found = pkgutil.walk_packages(modswap.io.formats.__path__, f"{modswap.io.formats.__name__}.")
    return names + [module.name for module in found if module.name.endswith(".outline")]


def test_no_torch_is_imported_where_files_are_read_as_data() -> None:
    names = modules()
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert len(names) > 25
    assert done.returncode == 0, done.stderr

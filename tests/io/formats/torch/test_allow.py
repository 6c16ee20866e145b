"""Which of the names in a pickle may be built, and what is said of the others.

Covers: load, sound.
"""

import io
import ipaddress
import string
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.reading import read
from modswap.io.formats.torch.allow import resolve
from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.names import runs_code
from modswap.io.pickled.values import BLANK

PLAIN = Policy()
WEIGHTS = {"a.weight": torch.ones(2), "b.bias": torch.zeros(3)}


def calling(module: str, name: str, argument: str, file: Path) -> Path:
    """Write a file whose pickle calls a name with one string."""
    body = f"c{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(argument))
    pickled = b"\x80\x02" + body + argument.encode() + b"\x85R."
    stream = io.BytesIO()
    torch.save({"a": 1}, stream)
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, pickled if entry.filename.endswith("data.pkl") else old.read(entry))
    return file


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that imports `os`, as most do, and has a function of its own."""
    name = f"host_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "nets.py").write_text(
        "import os\nfrom torch import nn\n"
        "class Net(nn.Module):\n    class Inner(nn.Module): ...\n"
        "def shell(text): os.system(text)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("module", "name"),
    [("nets", "os.system"), ("nets.os", "system"), ("nets", "shell"), ("nets", "nn.Linear")],
)
def test_whole_package_admits_its_own_classes_and_nothing_it_imported(
    module: str, name: str, package: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    file = calling(f"{package}.{module}", name, f"touch {canary}", tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match=rf"{package}\.{module}\.{name}"):
        read(file, Policy(allow=(f"{package}.*",)))

    assert not canary.exists()


def test_whole_package_admits_nested_classes(package: str, tmp_path: Path) -> None:
    name = f"{package}.nets.Net.Inner"

    ((value, known),) = resolve([name], Policy(allow=(f"{package}.*",)), tmp_path)

    assert (value.__qualname__, known) == ("Net.Inner", name)


def test_function_is_admitted_by_its_name(package: str, tmp_path: Path) -> None:
    name = f"{package}.nets.shell"

    assert resolve([name], Policy(allow=(name,)), tmp_path)[0][0].__name__ == "shell"


@pytest.mark.parametrize("pattern", ["*", "builtins.*", "b*.eval", "builtins.eva?"])
def test_pattern_never_admits_what_runs_code(pattern: str, tmp_path: Path) -> None:
    file = calling("builtins", "eval", "1", tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match=r"builtins\.eval can run any code"):
        read(file, Policy(allow=(pattern,)))


def test_file_beside_the_checkpoint_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("open('canary', 'w')\nclass Net: ...\n")
    (tmp_path / "modswap.nn.").mkdir()
    monkeypatch.chdir(tmp_path)
    file = calling("modswap.nn./../evil.py", "Net", "x", tmp_path / "net.pt")

    with pytest.raises(UnsafeError) as raised:
        read(file, PLAIN)

    assert "--allow" not in raised.value.fix
    assert not Path("canary").exists()


@pytest.mark.parametrize("name", ["modswap.nn.nosuch.Net", "modswap.nn.custom.fit.NoSuch"])
def test_layer_of_another_version_is_reported(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match="written by another version of modswap") as raised:
        resolve([name], PLAIN, tmp_path / "net.pt")

    assert raised.value.where == str(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("os.system", True),
        ("posix.system", True),
        ("builtins.eval", True),
        ("pathlib.Path.touch", True),
        ("pathlib._local.PosixPath.unlink", True),
        ("pathlib.PosixPath", False),
        ("zipfile.ZipFile", True),
        ("logging.FileHandler", True),
        ("logging.getLogger", False),
        ("__main__.os.system", True),
        ("mypackage.nets.subprocess.run", True),
        ("torch.hub.load", True),
        ("torch.nn.modules.module.torch.hub.load", True),
        ("mypackage/../evil.py.Net", True),
        ("builtins.range", False),
        ("argparse.Namespace", False),
        ("oscar.Net", False),
        ("mypackage.io.Reader", False),
        ("__main__.Net", False),
    ],
)
def test_names_that_run_code_are_known(name: str, expected: bool) -> None:
    assert runs_code(name) is expected


@pytest.mark.parametrize("module", ["posix", "os"])
def test_permission_does_not_make_torch_call_the_system(module: str, tmp_path: Path) -> None:
    file = calling(module, "system", f"touch {tmp_path}/canary", tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match=rf"{module}\.system would have to be called"):
        read(file, Policy(allow=(f"{module}.system",)))

    assert not (tmp_path / "canary").exists()


def test_class_that_is_no_module_gets_none_for_what_is_beside_it(tmp_path: Path) -> None:
    wanted = ("builtins.set", str(BLANK))
    made = Instance("called", BLANK, (Name("builtins", "set"),))

    found = resolve(wanted, PLAIN, tmp_path / "net.pt", [made])

    assert [name for _, name in found] == list(wanted)


def test_all_names_are_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    address = ipaddress.IPv4Address(1)
    torch.save({"model": WEIGHTS, "args": string.Template("a"), "address": address}, file)

    with pytest.raises(UnsafeError) as raised:
        read(file, PLAIN)

    assert "2 names that are not allowed" in raised.value.what
    assert "--allow ipaddress.IPv4Address --allow string.Template" in raised.value.fix


def test_numbers_of_numpy_load_where_they_are_allowed(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    file = tmp_path / "net.pt"
    torch.save({"model": WEIGHTS, "best": numpy.float64(0.5)}, file)
    with pytest.raises(UnsafeError, match=r"scalar"):
        read(file, Policy(allow=("numpy.*",)))

    allow = (f"{numpy.float64(1).__reduce__()[0].__module__}.scalar", "numpy.*")

    assert read(file, Policy(allow=allow)).payload["best"] == 0.5


def test_numpy_without_a_list_of_its_types_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numpy = pytest.importorskip("numpy")
    monkeypatch.delitem(sys.modules, "numpy.dtypes")

    found = resolve(["numpy.dtype"], Policy(allow=("numpy.dtype",)), tmp_path)

    assert found == [(numpy.dtype, "numpy.dtype")]


# -- files from before torch 1.6, whose names torch does not list


def legacy(value: Any, folder: Path) -> Path:
    torch.save(value, folder / "net.pt", _use_new_zipfile_serialization=False)
    return folder / "net.pt"


def test_old_training_checkpoint_asks_for_its_classes(tmp_path: Path) -> None:
    file = legacy({"model": WEIGHTS, "args": string.Template("a")}, tmp_path)

    with pytest.raises(UnsafeError, match=r"add --allow string\.Template"):
        read(file, PLAIN)

    container = read(file, Policy(allow=("string.Template",)))
    assert container.payload["args"].template == "a"
    assert container.slots[0].keys == ("model",)


def test_name_that_stays_refused_ends_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = legacy({"model": WEIGHTS, "args": string.Template("a")}, tmp_path)
    monkeypatch.setattr("modswap.io.formats.torch.load.resolve", lambda *_: [])

    with pytest.raises(CheckpointError, match=r"refuses its pickle: string\.Template"):
        read(file, PLAIN)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"epoch": 3, "model": m}])
def test_old_whole_module_is_reported_before_any_class_is_asked_for(
    wrap: Any, tmp_path: Path
) -> None:
    from tests.models import GatedNet

    with pytest.raises(CheckpointError, match=r"whole module in the format of before torch 1\.6"):
        read(legacy(wrap(GatedNet()), tmp_path), PLAIN)


def test_old_whole_module_loads_with_trust(tmp_path: Path) -> None:
    container = read(legacy(nn.Linear(2, 2), tmp_path), Policy(trust=True))

    assert isinstance(container.slots[0].value, nn.Linear)

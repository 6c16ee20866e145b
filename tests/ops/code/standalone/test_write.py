"""Standalone files that build a swapped model and load it.

Covers: module, prove, shake, text.
"""

import importlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import CodeJob, Policy, Subject
from modswap.core.errors import ModswapError, ProofError, UsageError
from modswap.core.kept.code_change import StandaloneFile
from modswap.live_values import live_tensors
from modswap.ops.code import job
from modswap.ops.code.building.source import SourceFile
from modswap.ops.code.building.swapped import Swapped
from modswap.ops.code.standalone.module import PythonModule
from modswap.ops.code.standalone.prove import proved_standalone
from modswap.ops.code.standalone.shake import Shaker
from modswap.ops.code.standalone.write import Standalone
from tests.ops.code.cases import quick

SHAPE = (1, 3, 16, 16)
HARMFUL = (  # names that a pickle may give, also by way of a module that holds another one
    ("os", "system"),
    ("torch.nn.modules.module", "torch.os.system"),
    ("torch.nn.modules.container", "operator.methodcaller"),
    ("torch.nn.modules.module", "namedtuple"),
    ("torch.storage", "os.Storage"),
)
FILES = {
    "__init__.py": "",
    "parts/__init__.py": "from .blocks import Block as Block\n",
    "parts/blocks.py": """from __future__ import annotations
import typing as t
import torch
import torch.nn.functional as F
from torch import nn
from .. import config
if t.TYPE_CHECKING:
    from .other import Missing


def act(x: Missing | None) -> torch.Tensor:
    return F.relu(x)


class Block(nn.Module):
    width: Missing

    def __init__(self, width: int):
        super().__init__()
        from ..config import late, late as again
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.attn = nn.Conv2d(width, width, 1)
        self.k = config.SCALE * late() * again()

    def forward(self, x):
        forward = act(self.attn(self.conv(x)))
        return x + forward * self.k
""",
    "config.py": """SCALE = 2
TABLE = {}
TABLE["late"] = 1
SEEN = []


def seen(cls):
    SEEN.append(cls)
    return cls


def late():
    return TABLE["late"]


def act(x):
    return First.second(x)


class First:
    second = staticmethod(lambda x: Second().same(x))


class Second(First):
    def same(self, x):
        return x


print(1 / 0) if False else None
""",
    "nets.py": """from torch import nn
import torch.nn.functional as F
from . import config as c
from .config import seen
from .parts import Block


@seen
class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(2)))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        x = self.blocks(c.act(self.stem(x)))
        return {"out": self.head(F.relu(x)), "extra": (x, None)}


def build(width=8):
    return Net(width)
""",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the name of a package of the user's, whose folder is the current one."""
    folder, before = tmp_path_factory.mktemp("standalone"), Path.cwd()
    for name, text in FILES.items():
        file = folder / "shaken" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    torch.manual_seed(0)
    net = importlib.import_module("shaken.nets").build()
    modswap.replace(net, quick({"match": "blocks.*.attn", "with": "ACmix"}, shape=SHAPE))
    modswap.save(net, "whole.pt")
    modswap.save(net, "flat.safetensors")
    checkpoint = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": checkpoint}, "training.pt")
    yield "shaken"
    os.chdir(before)
    sys.path.remove(str(folder))
    for name in [one for one in sys.modules if one.split(".")[0] == "shaken"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _unproved(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def unproved(_: Swapped, written: Standalone, *, whole: bool) -> StandaloneFile:
        return StandaloneFile(written.text, 0.0, written.notes)

    if "slow" not in request.keywords:
        monkeypatch.setattr(job, "proved_standalone", unproved)


def written(file: str, model: str | None = None, *allow: str) -> StandaloneFile:
    return job.standalone_file(CodeJob(Subject(Path(file), Policy(allow=allow), model)))


def imported(text: str) -> Any:
    Path("made_alone.py").write_text(text)
    spec = importlib.util.spec_from_file_location("made_alone", "made_alone.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same(model: nn.Module, other: nn.Module, shape: tuple[int, ...] = (1, 3, 16, 16)) -> bool:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = zip(live_tensors(model.eval()(x)), live_tensors(other.eval()(x)), strict=True)
        return all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("file", ["whole.pt", "flat.safetensors"])
def test_file_holds_all_that_it_needs(file: str, package: str) -> None:
    model = f"{package}.nets:build(width=8)"
    made = written(file, model, f"{package}.*")

    module = imported(made.text)

    loaded = module.load(file)
    assert same(loaded, modswap.load(file, model, allow=[f"{package}.*"]))
    own = {type(one).__module__.split(".")[0] for one in loaded.modules()}
    assert own == {"made_alone", "torch"}
    lines = made.text.splitlines()
    assert [one for one in lines if one.lstrip().startswith(("import mod", "from mod"))] == []
    assert "self.attn = ACmix(in_planes=width, out_planes=width" in made.text
    assert "1 / 0" not in made.text
    assert "Triton" in made.notes[0]
    assert f"{package}.config.act" in made.notes[1]
    assert "Pan et al." in made.text
    assert "MIT License" in made.text
    for module_name, name in HARMFUL:
        with pytest.raises(pickle.UnpicklingError, match="is not part of this file"):
            module._Unpickler(io.BytesIO()).find_class(module_name, name)


def test_training_checkpoint_is_loaded_by_its_keys(package: str) -> None:
    made = written("flat.safetensors", f"{package}.nets:build")
    text = made.text.replace("_KEYS = ()", "_KEYS = ('state_dict',)")

    loaded = imported(text.replace("_PREFIX = ''", "_PREFIX = 'module.'")).load("training.pt")

    assert same(loaded, modswap.load("flat.safetensors", f"{package}.nets:build"))


def test_models_of_libraries_get_lines_behind_their_call(package: str) -> None:
    model = "torch.nn:Linear(in_features=4, out_features=4)"
    layer = "torch.nn:TransformerEncoderLayer(d_model=8, nhead=2, batch_first=True)"
    net = nn.TransformerEncoderLayer(8, 2, batch_first=True)
    rule = {"match": "linear1", "with": "torch.nn:Linear", "args": {"out_features": 2048}}
    modswap.replace(net, quick(rule, shape=(1, 5, 8)))
    modswap.save(net, "layer.safetensors")

    made = written("layer.safetensors", layer)

    assert "model = TransformerEncoderLayer(d_model=8, nhead=2, batch_first=True)\n" in made.text
    assert "    model.linear1 = nn.Linear(" in made.text.replace("Linear(", "nn.Linear(")
    assert same(imported(made.text).load("layer.safetensors"), net, (1, 5, 8))
    with pytest.raises(ModswapError):
        written("layer.safetensors", model)


def test_lines_take_over_where_changed_source_is_not_proved(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def proved(_: Swapped, one: Standalone, *, whole: bool) -> StandaloneFile:
        if "    model.blocks[0].attn = ACmix(" not in one.text:
            raise ProofError("its constructor reads the old module", "net", "report it")
        return StandaloneFile(one.text, 0.0, one.notes)

    monkeypatch.setattr(job, "proved_standalone", proved)
    model = f"{package}.nets:build"

    made = written("flat.safetensors", model)

    assert same(
        imported(made.text).load("flat.safetensors"), modswap.load("flat.safetensors", model)
    )


def test_file_without_code_loads_whole_modules_alone(package: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
    rule = {"match": "1", "with": "BiLevelRoutingAttention", "args": {"n_win": 2, "topk": 2}}
    modswap.replace(net, quick(rule, shape=SHAPE))
    beside = {"after": "0", "with": "CBAM", "start": "fresh"}
    modswap.replace(net, quick(beside, key="insert", shape=SHAPE))
    modswap.save(net, "sequential.pt")

    made = written("sequential.pt")

    module = imported(made.text)
    assert same(module.load("sequential.pt"), net)
    assert "Triton" in made.notes[0]
    assert "triton" not in made.text
    assert '"modswap::' not in made.text
    assert made.notes[-1] == "it loads whole modules alone: no call is known that builds the model"
    with pytest.raises(ValueError, match="this file loads whole modules"):
        module.load("flat.safetensors")


def test_program_of_torchscript_is_not_run(package: str) -> None:
    module = imported(written("flat.safetensors", f"{package}.nets:build").text)
    with ZipFile("script.pt", "w") as archive:  # by this record torch knows such a program
        archive.writestr("script/constants.pkl", b"")

    with pytest.raises(ValueError, match=r"script.pt holds a program of TorchScript"):
        module.load("script.pt")


def test_name_of_the_file_stays_a_text(package: str) -> None:
    name = 'a"""\nimport os\n"""\\.safetensors'
    Path(name).write_bytes(Path("flat.safetensors").read_bytes())

    made = written(name, f"{package}.nets:build")

    assert "import os\n" not in made.text
    assert same(imported(made.text).load(name), modswap.load(name, f"{package}.nets:build"))


def test_exported_program_needs_no_file(package: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1))
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 4, 4),)), "program.pt2")
    one = CodeJob(Subject(Path("program.pt2"), Policy(trust=True)))

    with pytest.raises(UsageError, match="no swap is known"):
        job.standalone_file(one)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from . import config\n\n\ndef f():\n    return config\n", "line 5 uses the module"),
        ("def f():\n    from . import config\n", "line 2 imports the module"),
        ("for f in ():\n    pass\n", "f is made by line 1, which does more than define it"),
        ("g = 1\n", "has no f that can be copied"),
    ],
)
def test_what_cannot_be_copied_is_refused(text: str, message: str, package: str) -> None:
    shaker = Shaker({})
    source = SourceFile("odd.py", text.encode())
    shaker._modules[f"{package}.odd"] = PythonModule(f"{package}.odd", source, package=False)

    with pytest.raises(UsageError, match=message):
        shaker.want(f"{package}.odd", "f")


def test_names_that_collide_become_different(package: str) -> None:
    other = "from os import path as F\n\nPair = 3\n\n\ndef load():\n    return F, Pair\n"
    Path("collide_one.py").write_text(other)
    Path("collide_two.py").write_text(
        "import collide_one\nimport os.path\nfrom collide_one import load as other\n"
        "from torch.nn import functional as F\nPair, Odd = 4, 5\n\n\n"
        "def build():\n    load = other()\n    return load, F, Pair, collide_one.Pair, os.path\n"
    )
    from modswap.ops.code.standalone.text import Printed

    shaker = Shaker({})
    target = shaker.want("collide_two", "build")
    printed = Printed(shaker, ("load",))
    space: dict[str, Any] = {}
    exec("\n".join(printed.imports()) + "\n" + printed.body(), space)

    (path, pair), *others = space[printed.name(target)]()

    assert (path, pair, others) == (os.path, 3, [torch.nn.functional, 4, 3, os.path])


@pytest.mark.slow
@pytest.mark.ci
def test_file_runs_in_an_environment_without_modswap(package: str, tmp_path: Path) -> None:
    made = written("whole.pt", None, f"{package}.*")
    (tmp_path / "alone.py").write_text(made.text)
    torch.save(modswap.load("whole.pt", allow=[f"{package}.*"]).eval()(torch.ones(1, 3, 16, 16)),
               tmp_path / "wanted.pt")  # fmt: skip
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; sys.path.append(sys.argv[2])\n"
        "import torch, alone, importlib.util\n"
        "assert importlib.util.find_spec('modswap.nn') is None\n"
        "assert importlib.util.find_spec('shaken') is None\n"
        "got = alone.load(sys.argv[3]).eval()(torch.ones(1, 3, 16, 16))\n"
        "want = torch.load(sys.argv[1] + '/wanted.pt')\n"
        "assert torch.equal(got['out'], want['out'])\n"
    )
    arguments = [str(tmp_path), sysconfig.get_path("purelib"), str(Path("whole.pt").absolute())]

    # without `site` no editable installation is found
    command = [sys.executable, "-I", "-S", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.returncode == 0, done.stderr
    assert made.apart == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("strict=True", "strict=True); raise SystemExit(3", "the process ended"),
        ("forward * self.k", "forward * self.k * 2", "outputs differ by"),
    ],
)
def test_wrong_file_is_not_proved(
    was: str, now: str, message: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(made: Swapped, one: Standalone, *, whole: bool) -> StandaloneFile:
        assert was in one.text
        text = one.text.replace(was, now)
        return proved_standalone(made, Standalone(text, one.notes, one.modules), whole=whole)

    monkeypatch.setattr(job, "proved_standalone", broken)

    with pytest.raises(ProofError, match=message):
        written("flat.safetensors", f"{package}.nets:build")

"""Sources of models, as users write them, with a swap and the change that it comes to."""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.core.asked.job import CodeJob, Policy, Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.kept.code_change import CodeChange
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.code import job
from modswap.ops.code.proof import child
from modswap.ops.code.proof.prove import Proof, Proved, judged, request_of, runs_of
from modswap.ops.rule_call import recipe_of_call
from tests.recipes import UNEXAMINED

HEAD = "import torch\nfrom torch import nn\n\n\n"
GATE = """def gate(c):
    return nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())


"""
TWO = """class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 1)
        self.first = FIRST
        self.second = SECOND

    def forward(self, x):
        x = self.stem(x)
        return self.second(self.first(x))
"""
BLOCKS = """class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.attn = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.attn(self.conv(x))


"""


def quick(
    rule: Mapping[str, Any], *, key: str = "replace", shape: Sequence[int] = (1, 3, 8, 8)
) -> Recipe:
    """Return a recipe of one rule whose swap is run and not examined further."""
    text = f"version: 1\ninputs: [{{shape: {list(shape)}}}]\n{key}: [{json.dumps(dict(rule))}]\n"
    return parse_recipe(text + UNEXAMINED, "swap.yaml", ".")


@dataclass(frozen=True)
class Case:
    """A source, a rule, and what the diff has to show."""

    source: str
    match: Sequence[str]
    shown: Sequence[str]  # lines that are added, without their indent
    ways: str  # of the sites, in the order of the rule
    rule: Mapping[str, Any] = field(default_factory=dict)
    builder: str = "Net()"
    files: Mapping[str, str] = field(default_factory=dict)  # further files of the folder
    encoding: str = "utf-8"
    shape: Sequence[int] = (1, 3, 8, 8)


def two(first: str, second: str) -> str:
    """Return a network of two gates."""
    return TWO.replace("FIRST", first).replace("SECOND", second)


def proved_here(proof: Proof, texts: Mapping[str, bytes]) -> Proved:
    """Prove a change in this process, as the fresh one does; much faster."""
    asked, runs = request_of(proof, texts), runs_of(proof)
    here = {str(Path(file).parent) for file in texts}
    own = [n for n, m in sys.modules.items() if _folder_of(m) in here]
    known = {name: sys.modules.pop(name) for name in own}
    for name in list(sys.path_importer_cache):
        if name in here:
            del sys.path_importer_cache[name]
    try:
        return judged(child.compare(asked, proof.swapped.state_dict(), runs), proof, asked)
    finally:
        for name in [n for n, m in sys.modules.items() if _folder_of(m) in here]:
            del sys.modules[name]
        sys.modules.update(known)
        for name, module in known.items():  # importing another one changed the package around it
            package, _, own_name = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], own_name, module)


def _folder_of(module: Any) -> str:
    return str(Path(getattr(module, "__file__", None) or "/").parent)


def changed(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> CodeChange:
    """Return the change of source for a case, whose file gets a name of its own."""
    for file, text in case.files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text.replace("NAME", name))
    (folder / f"{name}.py").write_bytes(case.source.replace("NAME", name).encode(case.encoding))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(job, "prove", proved_here)
    importlib.invalidate_caches()
    reference, bracket, args = case.builder.partition("(")
    module = importlib.import_module(name)
    built = eval(f"{reference}{bracket}{args}", vars(module))
    torch.save(built.state_dict(), "weights.pt")
    rule = {n: v.replace("NAME", name) if n == "with_" else v for n, v in case.rule.items()}
    recipe = recipe_of_call(
        {"match": list(case.match), "with_": "ECA", **rule}, [tuple(case.shape)]
    )
    subject = Subject(Path("weights.pt"), Policy(), f"{name}:{case.builder}")
    return job.code_change(CodeJob(subject, recipe))


CASES: dict[str, Case] = {
    "both gates": Case(
        HEAD + GATE + two("gate(width)", "gate(width)"),
        ["first", "second"],
        ["self.first = ECA(channel=width)", "self.second = ECA(channel=width)",
         "from modswap.nn import ECA"],
        "call call",
    ),
    "one gate": Case(
        HEAD + GATE + two("gate(width)", "gate(width)"),
        ["second"],
        ["self.second = ECA(channel=width)"],
        "call",
    ),
    "typed, with a comment": Case(
        HEAD + GATE + two("gate(width)", "gate(\n            width,  # wide\n        )  # kept"),
        ["second"],
        ["self.second = ECA(channel=width)  # kept"],
        "call",
    ),
    "literal": Case(
        HEAD + GATE + two("gate(2 ** 3)  # a gate", "gate(int('8'))"),
        ["first", "second"],
        ["self.first = ECA(channel=8)  # a gate",
         "self.second = ECA(channel=8)  # as observed: channel=8"],
        "call call",
    ),
    "conditional, tuple and add_module": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self, wide=True, c=8):\n"
        "        super().__init__()\n        self.stem = nn.Conv2d(3, 8, 1)\n"
        "        self.a, self.b = nn.Conv2d(c, c, 1), nn.Conv2d(c, 8, 1)\n"
        "        self.add_module('c', nn.Conv2d(c, c, 3) if not wide else nn.Conv2d(c, c, 1))\n\n"
        "    def forward(self, x):\n        return self.c(self.b(self.a(self.stem(x))))\n",
        ["a", "b", "c"],
        ["self.a, self.b = ECA(channel=c), ECA(channel=c)",
         "self.add_module('c', nn.Conv2d(c, c, 3) if not wide else ECA(channel=c))"],
        "call call call",
    ),
    "sequential by position": Case(
        HEAD
        + "def build(c=8):\n    return nn.Sequential(nn.Conv2d(3, c, 1), nn.Conv2d(c, c, 1))\n",
        ["1"],
        ["return nn.Sequential(nn.Conv2d(3, c, 1), ECA(channel=c))"],
        "call",
        builder="build()",
    ),
    "ordered dictionary": Case(
        "from collections import OrderedDict\n" + HEAD
        + "def build(c=8):\n    return nn.Sequential(OrderedDict([('a', nn.Conv2d(3, c, 1)),\n"
        "        ('b', nn.Conv2d(c, c, 1))]))\n",
        ["b"],
        ["('b', ECA(channel=c))]))"],
        "call",
        builder="build()",
    ),
    "loop, all of them": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, 8, 1)\n        self.layers = nn.ModuleList()\n"
        "        for width in (8, 16):\n"
        "            self.layers.append(nn.Conv2d(width, width, 3, padding=1))\n"
        "            self.layers.append(nn.Conv2d(width, 16, 1))\n\n"
        "    def forward(self, x):\n        x = self.stem(x)\n"
        "        for layer in self.layers:\n            x = layer(x)\n        return x\n",
        ["layers.0", "layers.2"],
        ["self.layers.append(ECA(channel=width))"],
        "call call",
    ),
    "loop, some of them": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, 8, 1)\n"
        "        self.layers = nn.Sequential(*[nn.Conv2d(8, 8, 1) for _ in range(3)])\n\n"
        "    def forward(self, x):\n        return self.layers(self.stem(x))\n",
        ["layers.1"],
        ["self.layers[1] = ECA(channel=8)  # as observed: channel=8"],
        "line",
    ),
    "setattr in a loop": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self, c=8):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, c, 1)\n        for name in ('a', 'b'):\n"
        "            setattr(self, name, nn.Conv2d(c, c, 1))\n\n"
        "    def forward(self, x):\n        return self.b(self.a(self.stem(x)))\n",
        ["a", "b"],
        ["setattr(self, name, ECA(channel=c))"],
        "call call",
    ),
    "block class, all of them": Case(
        HEAD + "__all__ = ['Block', 'build']\n\n\n" + BLOCKS
        + "def build():\n    return nn.Sequential(nn.Conv2d(3, 8, 1), Block(8), Block(8))\n",
        ["*.attn"],
        ["self.attn = ECA(channel=width)"],
        "call call",
        builder="build()",
    ),
    "block class, some of them": Case(
        HEAD + BLOCKS
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 8, 1), Block(8), Block(8))\n\n"
        "    def forward(self, x):\n        return self.body(x)\n",
        ["body.2.attn"],
        ["self.body[2].attn = ECA(channel=8)  # as observed: channel=8"],
        "line",
    ),
    "block class that other code uses": Case(
        HEAD + BLOCKS
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 8, 1), Block(8))\n\n"
        "    def forward(self, x):\n        return self.body(x)\n",
        ["body.1.attn"],
        ["self.body[1].attn = ECA(channel=8)  # as observed: channel=8"],
        "line",
        files={"other.py": "from NAME import Block\n\nblock = Block(4)\n"},
    ),
    "helper of a block class that other code uses": Case(
        HEAD + GATE + BLOCKS.replace("nn.Conv2d(width, width, 1)", "gate(width)")
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 8, 1), Block(8))\n\n"
        "    def forward(self, x):\n        return self.body(x)\n",
        ["body.1.attn"],
        ["self.body[1].attn = ECA(channel=8)  # as observed: channel=8"],
        "line",
        files={"other.py": "from NAME import Block\n\nblock = Block(4)\n"},
    ),
    "block class that other code names in a text": Case(
        HEAD + BLOCKS
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 8, 1), Block(8))\n\n"
        "    def forward(self, x):\n        return self.body(x)\n",
        ["body.1.attn"],
        ["self.body[1].attn = ECA(channel=8)  # as observed: channel=8"],
        "line",
        files={"other.py": "import NAME\n\nblock = getattr(NAME, 'Block')(4)\n"},
    ),
    "block class whose name another file has as well": Case(
        HEAD + BLOCKS
        + "def build():\n    return nn.Sequential(nn.Conv2d(3, 8, 1), Block(8))\n",
        ["1.attn"],
        ["self.attn = ECA(channel=width)"],
        "call",
        builder="build()",
        files={"other.py": "class Block:\n    pass\n\n\nblock = Block(4)\n"},
    ),
    "deep copies": Case(
        "import copy\n" + HEAD + BLOCKS
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, 8, 1)\n        first = Block(8)\n"
        "        self.blocks = nn.ModuleList(copy.deepcopy(first) for _ in range(2))\n\n"
        "    def forward(self, x):\n        x = self.stem(x)\n"
        "        return self.blocks[1](self.blocks[0](x))\n",
        ["blocks.0.attn"],
        ["self.blocks[0].attn = ECA(channel=8)  # as observed: channel=8"],
        "line",
    ),
    "class by a key": Case(
        HEAD
        + "KINDS = {'conv': nn.Conv2d}\n\n\n"
        "class Net(nn.Module):\n    def __init__(self, kind='conv'):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, 8, 1)\n        self.gate = KINDS[kind](8, 8, 1)\n\n"
        "    def forward(self, x):\n        return self.gate(self.stem(x))\n",
        ["gate"],
        ["self.gate = ECA(channel=8)  # as observed: channel=8"],
        "line",
    ),
    "shared": Case(
        HEAD + GATE + two("gate(width)", "gate(width)"),
        ["first", "second"],
        ["self.first = ECA(channel=width)", "self.second = self.first"],
        "call call",
        {"share": True},
    ),
    "two names of one module": Case(
        HEAD + GATE + two("gate(width)", "self.first"),
        ["first"],
        ["self.first = ECA(channel=width)"],
        "call",
    ),
    "shared in a loop": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, 8, 1)\n"
        "        self.layers = nn.ModuleList([nn.Conv2d(8, 8, 1) for _ in range(2)])\n\n"
        "    def forward(self, x):\n        return self.layers[1](self.layers[0](self.stem(x)))\n",
        ["layers.*"],
        ["self.layers[0] = ECA(channel=8)  # as observed: channel=8",
         "self.layers[1] = self.layers[0]"],
        "line line",
        {"share": True},
    ),
    "an adapter": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self, c=8):\n        super().__init__()\n"
        "        self.stem = nn.Conv2d(3, c, 1)\n        self.mix = nn.Linear(c, c)\n\n"
        "    def forward(self, x):\n        x = self.stem(x).permute(0, 2, 3, 1)\n"
        "        return self.mix(x)\n",
        ["mix"],
        ['self.mix = SiteAdapter(ECA(channel=c), layout="NHWC", wants="NCHW")',
         "from modswap.nn.adapters import SiteAdapter"],
        "call",
    ),
    "name that is taken": Case(
        HEAD + GATE + "ECA = 3\n\n\n" + two("gate(width)", "gate(width)"),
        ["first"],
        ["from modswap.nn import ECA as ModswapECA", "self.first = ModswapECA(channel=width)"],
        "call",
    ),
    "torch's own": Case(
        HEAD + GATE + two("gate(width)", "gate(width)"),
        ["first"],
        ["self.first = nn.Identity()"],
        "call",
        {"with_": "Identity"},
    ),
    "a class of the file itself": Case(
        HEAD + GATE + BLOCKS + two("gate(width)", "gate(width)"),
        ["first"],
        ["self.first = Block(width=width)"],
        "call",
        {"with_": "NAME:Block"},
    ),
    "latin-1, CRLF and tabs": Case(
        ("# coding: latin-1\n# é\n" + HEAD + two("nn.Conv2d(width, width, 1)  # ü", "nn.ReLU()"))
        .replace("    ", "\t").replace("\n", "\r\n"),
        ["first"],
        ["self.first = ECA(channel=width)  # ü"],
        "call",
        encoding="latin-1",
    ),
    "constructor on one line": Case(
        "from torch import nn\nclass Net(nn.Module):\n"
        "    def __init__(self): super().__init__(); self.a = nn.Sequential(*map(conv, 'abc'))\n"
        "    def forward(self, x): return self.a(x)\ndef conv(_): return nn.Conv2d(8, 8, 1)\n",
        ["a.1"],
        [("def __init__(self): super().__init__(); self.a = nn.Sequential(*map(conv, 'abc')); "
          "self.a[1] = ECA(channel=8)")],
        "line",
        shape=(1, 8, 6, 6),
    ),
    "library's module inside an own class": Case(
        HEAD
        + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)\n"
        "        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)\n\n"
        "    def forward(self, x):\n        return self.body(x)\n",
        ["body.layers.1.linear1"],
        [("self.body.layers[1].linear1 = nn.Linear(in_features=8, out_features=16)"
          "  # as observed: in_features=8")],
        "line",
        {"with_": "torch.nn:Linear", "args": {"out_features": 16}},
        shape=(1, 5, 8),
    ),
    "put in behind a module": Case(
        HEAD + GATE + two("gate(width)", "gate(width)"),
        [],
        ['put_in(self.first, "eca", Insertion(',
         'ECA(channel=8), Joint(place="after", form="plain", channels=8, axes=2)',
         "from modswap.nn.inserted_site import put_in"],
        "line",
        {"match": None, "after": "first", "start": "fresh"},
    ),
}  # fmt: skip

"""The change of source for models as users write them.

Covers: building.builder, building.record, building.source, building.swapped, building.wanted,
editing.edit, editing.lines, editing.locate, editing.names, editing.spell.
"""

import importlib
import runpy
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import CodeJob, Policy, Subject
from modswap.core.errors import ModswapError, UsageError
from modswap.ops.code import job
from modswap.ops.rule_call import recipe_of_call
from modswap.report.code.diff import unified
from tests.ops.code import code_page
from tests.ops.code.cases import BLOCKS, CASES, HEAD, Case, changed, proved_here


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", CASES)
def test_change_is_shown_and_proved(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    module = f"case_{list(CASES).index(name)}"

    change = changed(case, tmp_path, monkeypatch, module)

    (file,) = change.files
    before, after = (data.decode(file.encoding) for data in (file.before, file.after))
    added = [line.strip() for line in after.splitlines() if line not in before.splitlines()]
    assert [one for one in case.shown if one.replace("NAME", module) not in added] == [], added
    assert " ".join(site.way for site in change.sites) == case.ways
    assert change.apart == 0


NET = (
    HEAD
    + """class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 1)
        self.a = nn.Conv2d(width, width, 1)
        self.b = nn.Conv2d(WIDTH, width, 1)

    def forward(self, x):
        return self.b(self.a(self.stem(x)))
"""
)
INSIDE = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.a(x)
"""
EXECUTED = f"from torch import nn\nspace = dict(nn=nn, __name__='made')\nexec({INSIDE!r}, space)\n"
REFUSED = {
    "a class without source": (
        Case(EXECUTED + "def build():\n    return space['Net']()\n", ["a"], [], "", {}, "build()"),
        "a: its source cannot be shown: Net has no source file; see `--standalone FILE`",
    ),
    "a class of a library": (
        Case(HEAD + "parts = [nn.Conv2d(3, 8, 1)]\n\n\ndef build():\n"
             "    return nn.Sequential(*map(copy.deepcopy, parts))\n\n\nimport copy\n",
             ["0"], [], "", {"with_": "ConvGate"}, "build()"),
        "0: its source cannot be shown: Sequential has no constructor of your own",
    ),
    "an attribute of the old module that is read": (
        Case(NET.replace("WIDTH", "self.a.out_channels"), ["a"], [], ""),
        "not proved: the factory 'NAME:Net()' raised AttributeError: 'ECA' object has no attribute",
    ),
    "instances that differ": (
        Case(HEAD + BLOCKS + "def build():\n"
             "    return nn.Sequential(nn.Conv2d(3, 8, 1), *map(Block, (8, 8)))\n",
             ["1.attn"], [], "", {}, "build()"),
        "1.attn: its source cannot be shown: Sequential has no constructor of your own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_proved_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, reason = REFUSED[name]
    module = f"refused_{list(REFUSED).index(name)}"

    with pytest.raises(ModswapError) as refused:
        changed(case, tmp_path, monkeypatch, module)

    assert reason.replace("NAME", module) in str(refused.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(job, "prove", proved_here)
    return tmp_path


def asked(file: str, model: str | None = None, **policy: Any) -> CodeJob:
    recipe = recipe_of_call({"match": "a", "with_": "ECA"}, [(1, 3, 8, 8)])
    return CodeJob(Subject(Path(file), Policy(**policy), model), recipe)


def test_builder_of_another_model_is_refused(folder: Path) -> None:
    (folder / "of_class.py").write_text(NET.replace("WIDTH", "width"))
    net = importlib.import_module("of_class").Net
    torch.save(net(16), "net.pt")
    job_ = asked("net.pt", allow=("of_class.Net",))

    with pytest.raises(UsageError, match=r"of_class:Net\(\) builds another model: stem.weight is "
                       r"\(8, 3, 1, 1\), in the file \(16, 3, 1, 1\)"):  # fmt: skip
        job.code_change(job_)
    (site,) = job.code_change(replace(job_, subject=replace(
        job_.subject, factory="of_class:Net(width=16)"))).sites  # fmt: skip
    assert (site.path, site.way, site.line) == ("a", "call", 9)


def test_layers_without_code_and_files_without_a_swap_are_refused(folder: Path) -> None:
    net = nn.Sequential(OrderedDict(a=nn.Conv2d(3, 3, 1)))
    torch.save(net, "plain.pt")

    with pytest.raises(UsageError, match="Sequential has no source of your own"):
        job.code_change(asked("plain.pt"))
    with pytest.raises(UsageError, match="no swap is known: the file records none"):
        job.code_change(replace(asked("plain.pt", "torch.nn:Sequential"), recipe=None))


@pytest.mark.slow
def test_swap_inside_a_file_is_shown_as_well(folder: Path) -> None:
    (folder / "swapped_net.py").write_text(NET.replace("WIDTH", "width"))
    net = importlib.import_module("swapped_net").Net
    rule: dict[str, Any] = {
        "match": "b",
        "with_": "ACmix",
        "args": {"head": 2},
        "inputs": [(1, 3, 8, 8)],
    }
    model = net()
    modswap.replace(model, **rule)
    modswap.save(model, "whole.pt")
    modswap.save(model, "out.safetensors")
    wanted = "+        self.b = ACmix(in_planes=width, out_planes=width, head=2)\n"

    whole = job.code_change(replace(asked("whole.pt", allow=("swapped_net.Net",)), recipe=None))
    flat = job.code_change(replace(asked("out.safetensors", "swapped_net:Net"), recipe=None))

    assert wanted in unified(whole)
    assert unified(flat) == unified(whole)
    given = replace(whole.sites[0], path="b", way="call")
    assert whole.sites == (given,) == flat.sites


def test_argument_that_the_recipe_leaves_open_is_an_observed_one(folder: Path) -> None:
    (folder / "open_net.py").write_text(NET.replace("WIDTH", "width"))
    model = importlib.import_module("open_net").Net()
    args = {"num_heads": 2, "n_win": 2, "topk": 2, "qk_dim": None}
    modswap.replace(model, match="b", with_="BRA", args=args, inputs=[(1, 3, 8, 8)])
    modswap.save(model, "open.safetensors")

    change = job.code_change(replace(asked("open.safetensors", "open_net:Net"), recipe=None))

    assert "qk_dim=width" in unified(change)
    assert change.sites[0].literals == ()


SCRIPT = """
from pathlib import Path

import torch
from torch import nn

WIDTH = 8
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, WIDTH, 1)
        self.b = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x):
        return self.b(self.a(x))


net = Net()
Path("trained").write_text("yes")
torch.save(net, "net.pt")
"""


ALIAS = {"allow": ("train_it.Net",), "aliases": (("__main__.Net", "train_it.Net"),)}


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        ("train_it.py:Net", {}),
        (None, ALIAS),
        ("train_it:Net", ALIAS),
    ],
)
def test_script_is_not_executed_as_a_whole(
    model: str | None, policy: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train_it.py").write_text(SCRIPT)
    runpy.run_path("train_it.py", run_name="__main__")
    (folder / "trained").unlink()
    monkeypatch.delitem(sys.modules, "train_it", raising=False)
    recipe = recipe_of_call({"match": "b", "with_": "ECA"}, [(1, 3, 8, 8)])

    change = job.code_change(replace(asked("net.pt", model, **policy), recipe=recipe))

    assert "+        self.b = ECA(channel=WIDTH)\n" in unified(change)
    assert not (folder / "trained").exists()
    monkeypatch.delitem(sys.modules, "train_it")


@pytest.mark.slow
def test_page_shows_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "prove", proved_here)
    for name in ("net", "modswap_file_net"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    text = code_page.page()

    assert text == code_page.PAGE.read_text(encoding="utf-8"), "`make docs` writes it anew"

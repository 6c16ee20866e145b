"""Other names of modules, in the source and in the file."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import modswap
from modswap.core.asked.job import CodeJob, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError, UsageError
from modswap.ops.code import job
from modswap.ops.code.proof.prove import Proof, Proved
from modswap.ops.rule_call import recipe_of_call
from modswap.report.code.diff import unified
from tests.ops.code.cases import HEAD, proved_here

NET = (
    HEAD
    + '''class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a = nn.Conv2d(c, c, 1)

    def forward(self, x):
        return self.a(x)


class Net(nn.Module):
    """A net with space_attention."""

    def __init__(self, c=8):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 1)
        self.channel_attention = nn.Conv2d(c, c, 1)
        self.space_attention = nn.Conv2d(c, c, 1)
        self.blocks = nn.Sequential(Block(c), Block(c))

    def forward(self, x):
        x = self.channel_attention(self.stem(x))
        return self.blocks(self.space_attention(x))
'''
)
GATES = (("channel_attention", "attention"), ("space_attention", "attention"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(job, "prove", proved_here)
    return tmp_path


def asked(text: str = NET, names: Any = GATES, file: str = "net.pt", **more: Any) -> CodeJob:
    Path("named_net.py").write_text(text)
    sys.modules.pop("named_net", None)
    importlib.invalidate_caches()
    net = importlib.import_module("named_net").Net()
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, "net.pt")
    torch.save(net, "whole.pt")
    rule = {"match": "{channel,space}_attention", "with_": "ECA", "share": True}
    rule |= more.pop("rule", {})
    subject = Subject(Path(file), Policy(allow=("named_net.*",)), "named_net:Net")
    return CodeJob(subject, recipe_of_call(rule, [(1, 3, 8, 8)]), names, **more)


def test_two_gates_become_one_name_in_source_and_file(folder: Path) -> None:
    change = job.code_change(asked(out=Path("out.pt")))

    text = unified(change)
    assert "+        self.attention = ECA(channel=c)\n         self.blocks" in text
    assert "+        x = self.attention(self.stem(x))\n" in text
    assert "+        return self.blocks(self.attention(x))\n" in text
    assert [site.path for site in change.sites] == ["attention", "attention"]
    assert change.written == "out.pt"
    saved = torch.serialization.load("out.pt")
    assert saved["epoch"] == 3
    assert [name for name in saved["state_dict"] if "att" in name] == ["attention.conv.weight"]
    Path("named_net.py").write_bytes(change.files[0].after)
    sys.modules.pop("named_net")
    importlib.invalidate_caches()
    loaded = modswap.load("out.pt", "named_net:Net", allow=["named_net.*"])
    assert type(loaded.attention).__name__ == "ECA"
    assert list(dict(loaded.named_children())) == ["stem", "attention", "blocks"]


def test_modules_of_a_whole_model_keep_their_order(folder: Path) -> None:
    job.code_change(asked(file="whole.pt", out=Path("out.pt")))

    loaded = modswap.load("out.pt", allow=["named_net.*"])
    assert list(dict(loaded.named_children())) == ["stem", "attention", "blocks"]


def test_every_instance_of_a_class_is_renamed(folder: Path) -> None:
    rule = {"match": "blocks.*.a", "share": False}

    change = job.code_change(asked(names=(("blocks.0.a", "gate"),), rule=rule, file="whole.pt",
                                   out=Path("out.pt")))  # fmt: skip

    assert "+        self.gate = ECA(channel=c)\n" in unified(change)
    assert [site.path for site in change.sites] == ["blocks.0.gate", "blocks.1.gate"]
    with pytest.raises(CheckpointError, match="it exists"):
        job.code_change(asked(file="whole.pt", out=Path("out.pt")))


REFUSED = {
    "a text": (NET + "\n\nNAMES = ['space_attention']\n", "it has 'space_attention' in a text"),
    "getattr": (NET.replace("self.stem(x)", "getattr(self, 'stem')(x)"),
                "it reaches attributes by getattr"),
    "another object": (NET + "\n\ndef see(net):\n    return net.channel_attention\n",
                       "it uses .channel_attention of another object"),
    "a derived class": (NET + "\n\nclass More(Net):\n    def more(self):\n"
                        "        self.channel_attention = None\n",
                        "it uses .channel_attention of another object"),
    "a taken name": (NET.replace("self.blocks =", "self.attention = nn.ReLU(); self.blocks ="),
                     "two modules cannot have the name attention"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_name_that_something_else_uses_is_refused(name: str, folder: Path) -> None:
    text, message = REFUSED[name]

    with pytest.raises(UsageError, match=message):
        job.code_change(asked(text))


def test_another_file_may_have_the_name_in_a_sentence(folder: Path) -> None:
    Path("plots.py").write_text("def plot(show):\n    show('the space_attention of a picture')\n")

    assert job.code_change(asked()).apart == 0


def test_another_file_that_says_the_path_is_refused(folder: Path) -> None:
    Path("plots.py").write_text("KEYS = ['space_attention.weight']\n")

    with pytest.raises(UsageError, match=r"plots\.py.*it has 'space_attention' in a text"):
        job.code_change(asked())


def test_other_classes_may_have_such_an_attribute(folder: Path) -> None:
    Path("others.py").write_text(
        "class Other:\n    def __init__(self):\n        self.space_attention = 1\n"
    )

    assert job.code_change(asked()).apart == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((("nowhere", "x"),), "no module 'nowhere' in Net"),
        ((("blocks.0", "x"),), "Sequential, which holds it, has no source of your own"),
        ((("channel_attention", "one"), ("space_attention", "stem")), "cannot have the name stem"),
    ],
)
def test_wrong_name_is_refused(names: Any, message: str, folder: Path) -> None:
    with pytest.raises(ModswapError, match=message):
        job.code_change(asked(names=names))


def test_file_of_two_copies_is_not_written(folder: Path) -> None:
    one = asked(out=Path("out.pt"))
    state = torch.serialization.load("net.pt")["state_dict"]
    torch.save({"model": state, "ema": state}, "net.pt")

    with pytest.raises(UsageError, match="it holds more than one copy of the model"):
        job.code_change(one)


def test_file_is_not_written_if_the_source_changed_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = asked(out=Path("out.pt"))

    def proved_and_edited(proof: Proof, texts: Mapping[str, bytes]) -> Proved:
        Path("named_net.py").write_text(f"{NET}\n# mine")
        return proved_here(proof, texts)

    monkeypatch.setattr(job, "prove", proved_and_edited)

    with pytest.raises(CheckpointError, match="it changed since it was read"):
        job.code_change(one)
    assert not Path("out.pt").exists()


def test_flipped_bit_gets_no_new_checksum(folder: Path) -> None:
    one = asked(out=Path("out.pt"))
    content = bytearray(Path("net.pt").read_bytes())
    stem = torch.serialization.load("net.pt")["state_dict"]["stem.weight"]
    content[content.index(bytes(stem.untyped_storage())) + 5] ^= 16
    Path("net.pt").write_bytes(content)

    with pytest.raises(CheckpointError, match="damaged"):
        job.code_change(one)

    assert not Path("out.pt").exists()


@pytest.mark.parametrize("step", ["proving", "writing"])
def test_file_that_changes_meanwhile_is_not_written(step: str, folder: Path) -> None:
    one = asked(out=Path("out.pt"))

    def progress(said: str) -> None:
        if said.startswith(step):
            Path("net.pt").touch()

    with pytest.raises(CheckpointError, match="it changed while it was read"):
        job.code_change(one, progress)

    assert not Path("out.pt").exists()

"""`modswap explain` as the command runs it.

Covers: commands.explain.
"""

import json
from pathlib import Path

import pytest
import torch

from modswap.cli.app import run
from modswap.nn import BiLevelRoutingAttention
from tests.commands import Command, Ran
from tests.models import GatedNet
from tests.ops.explain.traps import Named, Twice

QUICK = ["--no-time", "--set", "in_planes=8", "--set", "out_planes=16", "--input", "1,8,7,9"]
NETS = """\
import torch
from torch import nn
from modswap.nn import ECA


class Net(nn.Module):
    def __init__(self, width: int, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.gate = ECA(width)
        self.depth = depth
        self.unused = nn.Identity()

    def forward(self, x):
        x = self.stem(x)
        for _ in range(self.depth):
            x = self.gate(x)
        return x


class Wordless(nn.Module):
    forward = staticmethod(torch.relu)


double = lambda x: 2 * x
net = Net(4).eval()
"""


@pytest.fixture
def modswap(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command in a folder that holds a checkpoint and code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("nets.py").write_text(NETS)

    def call(*args: str) -> Ran:
        capsys.readouterr()
        code = run(["explain", *args])
        return Ran(code, *capsys.readouterr())

    return call


def test_module_of_the_catalogue_is_explained_in_the_papers_form(modswap: Command) -> None:
    ran = modswap("acmix", *QUICK)

    assert (ran.code, ran.err) == (0, "")
    assert "ACmix(in_planes=8, out_planes=16), the paper's form: (1, 8, 7, 9)" in ran.out
    assert "F_conv(i) = Σ_{(a,b)} Shift( fc[q, k, v]^(a,b), a, b )(i)" in ran.out
    assert "kernel_att = 7" in ran.out
    assert "out (N, C', H, W)" in ran.out
    assert "= torch's own counter" in ran.out
    assert "outputs equal the plain run's bit for bit" in ran.out
    assert "beside it, the form that runs" in ran.out
    assert "`--fast` explains it" in ran.out


def test_form_that_runs_is_one_option_away(modswap: Command) -> None:
    ran = modswap("ACmix", "--fast", "--depth", "1", *QUICK)

    assert ran.code == 0
    assert "ACmix(in_planes=8, out_planes=16), the form that runs" in ran.out
    assert "out = mix(computable(terms), geometry)" in ran.out
    assert "in operators that it leaves out" in ran.out


@pytest.mark.ci
@pytest.mark.slow
def test_chinese_is_one_option_away(modswap: Command) -> None:
    ran = modswap("ACmix", "--lang", "zh", *QUICK)

    assert ran.code == 0
    assert "论文形式" in ran.out
    assert "输出与普通运行逐位相同" in ran.out
    assert "the paper's form" not in ran.out


def test_module_in_a_file_gets_what_the_model_gives_it(modswap: Command) -> None:
    torch.manual_seed(0)
    torch.save(GatedNet().eval(), "net.pt")
    allow = ("--allow", "tests.models.*")

    ran = modswap("net.pt:space_attention", "--input", "1,3,14,14", "--no-time", *allow)

    assert ran.code == 0
    assert ran.out.startswith("Sequential at space_attention of net.pt: (1, 16, 7, 7)")
    assert "⤷" in ran.out


def test_class_is_built_with_its_arguments(modswap: Command) -> None:
    ran = modswap("nets.py:Net(8)", "--set", "depth=3", "--no-time", "--format", "json")

    told = json.loads(ran.out)
    assert ran.code == 0
    assert told["title"] == "Net(8, depth=3)"
    assert [one["value"] for one in told["options"]] == ["8", "3"]
    assert [line["count"] for line in told["root"]["lines"]] == [1, 3, 3, 1]
    assert told["notes"][0].startswith("no input was given: took (1, 3, 224, 224)")


def test_module_that_runs_several_times_is_shown_once(modswap: Command) -> None:
    torch.save(Twice(), "net.pt")
    options = ("--no-time", "--input", "1,3,8,8", "--allow", "tests.ops.explain.traps.*")

    ran = modswap("net.pt:gate", *options)

    assert "it is called 2 times, the first call is shown" in ran.out
    assert "return self._conv_forward(input, self.weight, self.bias)" in ran.out
    ran = modswap("net.pt:unused", *options)
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: unused: the pass does not call it")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["Acmx"], 2, "explain: no module 'Acmx' in the catalogue"),
        (["torch.nn:functional"], 2, "explain: 'torch.nn:functional' is of the type module, exp"),
        (["ACmix", "--set", "heads=2"], 2, "--set: ACmix has no argument 'heads'"),
        (["ACmix", "--set", "head=5"], 2, "--set: ACmix does not take these arguments: ValueE"),
        (["ACmix", "--lang", "de"], 2, "--lang: no language 'de'"),
        (["none.pt:a"], 3, "none.pt: no such file"),
        (["nets.py:Wordless", "--input", "1,4"], 2, "Wordless(): the source of its forward cannot"),
        (["nets.py:double"], 2, "explain: 'nets.py:double' is a lambda, expected a class of mod"),
        (["nets.py:Net"], 2, "explain: the factory 'nets.py:Net' raised TypeError: Net.__init__()"),
        (
            ["nets.py:Net(depth=3)"],
            2,
            "explain: the factory 'nets.py:Net(depth=3)' raised TypeError",
        ),
        (["nets.py:net", "--input", "1,5,8,8"], 2, "nets.py:net: the model refuses the input"),
    ],
)
def test_wrong_call_is_refused_in_one_line(
    modswap: Command, args: list[str], code: int, message: str
) -> None:
    ran = modswap(*args, "--no-time")

    first, fix, *more = ran.err.splitlines()
    assert (ran.code, ran.out, more) == (code, "", [])
    assert first.startswith(f"error: {message}")
    assert fix.startswith("  fix: ")


def test_file_of_code_alone_gets_advice(modswap: Command) -> None:
    ran = modswap("nets.py")

    assert ran.err.endswith("  fix: name the class in it: nets.py:Class\n")


def test_path_that_the_model_does_not_have_is_refused(modswap: Command) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)), "net.pt")

    ran = modswap("net.pt:1", "--no-time")

    assert ran.code == 2
    assert ran.err.startswith("error: net.pt: no module '1' in the model\n  fix: ")
    ran = modswap("net.pt:0", "--set", "a=1")
    assert ran.err.startswith("error: --set: a module in a file has its arguments already")


@pytest.fixture
def routed(modswap: Command) -> None:
    """Save a model with a routing attention in the command's folder."""
    del modswap
    torch.manual_seed(0)
    attention = BiLevelRoutingAttention(8, 2, n_win=4, topk=2, layout="NCHW")
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4), attention).eval(), "net.pt")


ROUTED = ("net.pt:1", "--input", "1,3,32,32", "--no-time")


@pytest.mark.usefixtures("routed")
def test_routing_is_drawn_as_svg_and_measured(modswap: Command) -> None:
    ran = modswap(*ROUTED, "--routing", "out.svg", "--window", "1,2")

    assert (ran.code, ran.err) == (0, "")
    assert "routing: each window attends to 2 of 16 windows; 16 of them" in ran.out
    assert "average attention distance" in ran.out
    assert "window (1,2) (row, column) attends to" in Path("out.svg").read_text()
    again = modswap(*ROUTED, "--routing", "out.svg")
    assert (again.code, again.err.splitlines()[0]) == (3, "error: out.svg: it exists")
    assert modswap(*ROUTED, "--routing", "out.svg", "--force").code == 0


@pytest.mark.usefixtures("routed")
def test_routing_is_drawn_over_a_picture(modswap: Command) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (64, 48)).save("photo.png")

    ran = modswap(*ROUTED, "--image", "photo.png", "--routing", "out.png")

    assert (ran.code, ran.err) == (0, "")
    assert "the picture was scaled to 32x32 pixels and normalised by ImageNet's" in ran.out
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("routed")
def test_page_has_the_routing_over_the_picture(modswap: Command) -> None:
    pytest.importorskip("PIL.Image").new("RGB", (64, 48)).save("photo.png")

    ran = modswap(*ROUTED, "--image", "photo.png", "--format", "html")

    assert (ran.code, ran.err) == (0, "")
    assert 'href="data:image/jpeg;base64,' in ran.out
    assert '<input type="range" id="window" min="0" max="15"' in ran.out
    plain = modswap("net.pt:0", *ROUTED[1:], "--image", "photo.png", "--format", "html")
    assert "<image" not in plain.out


def test_picture_takes_the_place_of_a_named_input(modswap: Command) -> None:
    pytest.importorskip("PIL.Image").new("RGB", (64, 48), (255, 0, 0)).save("photo.png")
    torch.save(Named(), "net.pt")

    options = ("--allow", "tests.ops.explain.traps.*", "--no-time", "--format", "json")
    told = json.loads(modswap("net.pt", "--image", "photo.png", *options).out)

    assert told["inputs"] == ["pixels=(1, 3, 8, 10)"]
    assert told["notes"][0].startswith("the picture was scaled to 10x8 pixels")


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["net.pt:0", "--routing", "o.svg"], 2, "Conv2d at 0 of net.pt: it has no routing: it is"),
        (["net.pt:1", "--routing", "o.gif"], 2, "--routing: 'o.gif' is no SVG and no PNG"),
        (["net.pt:1", "--routing", "net.pt.svg", "--window", "4,0"], 2, "--window: there is no w"),
        (["net.pt:1", "--routing", "o.svg", "--window", "a"], 2, "--window: 'a' is no ROW,COLUMN"),
        (["net.pt:1", "--window", "0,0"], 2, "--window: no drawing is asked for"),
        (["net.pt:1", "--image", "nets.py", "--routing", "o.svg"], 3, "nets.py: it is no picture"),
        (["ECA", "--image", "nets.py"], 2, "--image: a picture goes into the model of a file"),
    ],
)
def test_wrong_drawing_is_refused_in_one_line(
    modswap: Command, args: list[str], code: int, message: str
) -> None:
    if "nets.py" in message:
        pytest.importorskip("PIL")

    ran = modswap(*args, "--no-time", *(["--input", "1,3,32,32"] if "net" in args[0] else []))

    first, fix, *more = ran.err.splitlines()
    assert (ran.code, ran.out, more) == (code, "", [])
    assert first.startswith(f"error: {message}")
    assert fix.startswith("  fix: ")
    assert not list(Path().glob("*.svg"))


def test_module_that_ends_the_program_is_no_bug_of_modswap(modswap: Command) -> None:
    ran = modswap("tests.ops.explain.odd_tensors:Leaves", "--input", "2,3")

    assert ran.code == 3
    assert ran.err.startswith("error: explain: the model's own code raised SystemExit: 2")

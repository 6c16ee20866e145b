"""From a file to a working model, and every way in which that fails.

Covers: reopen, load.model, load.factory, load.fill, load.allowed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError, RecipeError, UnsafeError, UsageError
from modswap.core.kept.receipt import Receipt, SiteRecord
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.reopen import reopen
from tests.models import Detector, GatedNet, Tied

RULE = "replace: [{match: space_attention, with: BiLevelRoutingAttention}]\n"


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object] = dict) -> Path:
    state = dict(GatedNet().state_dict())
    change(state)
    torch.save(state, folder / "net.pt")
    return folder / "net.pt"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("tests.models:build_failing", r"the factory '.*' raised KeyError: 'depth' at models\.py:"),
        ("tests.models:build_nothing", r"gave int, expected an nn\.Module; return the model"),
        ("tests.models:nothing", r"tests\.models has no 'nothing'"),
        ("tests.models:NAMES", r"tests\.models has no 'NAMES'"),
        ("torch:float32", r"'torch:float32' is torch\.float32, expected a callable"),
        (
            "torch.nn:Linear",
            (
                r"raised TypeError: Linear\.__init__\(\) missing 2 required .*; give what it "
                r"lacks: `--model \"torch\.nn:Linear\(in_features=…, out_features=…\)\"`"
            ),
        ),
        (
            "torch.nn:Linear(bias=False, in_features=2)",
            r"`--model \"torch\.nn:Linear\(bias=False, in_features=2, out_features=…\)\"`",
        ),
        ("nosuchpackage:x", r"no module named 'nosuchpackage'"),
        (
            "tests.models:TokenNet",
            (
                r"does not fit the weights: 1\d missing \(patch\.weight, patch\.bias, .*, … and "
                r"\d+ more\); 1\d unexpected \(stem\.weight.*1 mismatched \(head\.weight is "
                r"\(2, 16, 1, 1\) in the file, \(3, 16\) in the model\); build the model that net"
            ),
        ),
    ],
)
def test_factory_that_does_not_fit_is_reported(factory: str, message: str, tmp_path: Path) -> None:
    file = weights(tmp_path, lambda state: state.pop("head.bias"))

    with pytest.raises(ModswapError, match=message) as raised:
        reopen(Subject(file, factory=factory))

    assert raised.value.where == "--model"
    assert raised.value.code == 2


def test_factory_of_a_recipe_is_blamed_at_its_line(tmp_path: Path) -> None:
    recipe = parse_recipe(
        f"version: 1\nmodel:\n  factory: tests.models:build_failing\n{RULE}", "swap.yaml", "."
    )

    with pytest.raises(RecipeError, match=r"^swap\.yaml:3:3: the factory"):
        reopen(Subject(weights(tmp_path)), recipe)


def test_factory_of_a_recipe_that_lacks_arguments_is_given_them_there(tmp_path: Path) -> None:
    recipe = parse_recipe(f"version: 1\nmodel: {{factory: 'torch.nn:Linear'}}\n{RULE}", "a", ".")

    with pytest.raises(RecipeError, match=r"give what it lacks under `args`, or write `torch"):
        reopen(Subject(weights(tmp_path)), recipe)


def test_factory_gets_its_arguments(tmp_path: Path) -> None:
    recipe = parse_recipe(
        "version: 1\nmodel: {factory: 'tests.models:build_gated', args: {channels: 16}}\n" + RULE,
        "swap.yaml",
        ".",
    )

    assert isinstance(reopen(Subject(weights(tmp_path)), recipe).model, GatedNet)


@pytest.mark.parametrize("call", ["build_gated(16)", "build_gated(channels=16)", "GatedNet( 16 )"])
def test_factory_gets_the_arguments_in_its_brackets(call: str, tmp_path: Path) -> None:
    text = f'version: 1\nmodel: {{factory: "tests.models:{call}"}}\n{RULE}'
    recipe = parse_recipe(text, "swap.yaml", ".")

    assert isinstance(reopen(Subject(weights(tmp_path)), recipe).model, GatedNet)
    asked = Subject(weights(tmp_path), factory=f"tests.models:{call}")
    assert isinstance(reopen(asked).model, GatedNet)


def test_argument_is_given_once(tmp_path: Path) -> None:
    text = 'model: {factory: "tests.models:build_gated(channels=16)", args: {channels: 16}}'
    recipe = parse_recipe(f"version: 1\n{text}\n{RULE}", "swap.yaml", ".")

    with pytest.raises(RecipeError, match="'channels' is given twice, in the factory's brackets"):
        reopen(Subject(weights(tmp_path)), recipe)


def test_factory_that_is_no_call_is_refused_at_its_line() -> None:
    text = f'version: 1\nmodel:\n  factory: "tests.models:build(width=x)"\n{RULE}'

    with pytest.raises(RecipeError, match=r"^swap\.yaml:3:3: `x` is no literal"):
        parse_recipe(text, "swap.yaml", ".")


def test_weights_without_a_factory_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it holds weights without code; say how to build"):
        reopen(Subject(weights(tmp_path)))


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    file = weights(tmp_path, lambda state: state["stem.bias"].fill_(7))

    model = modswap.load(file, "tests.models:build_gated")

    assert torch.equal(model.get_parameter("stem.bias"), torch.full((16,), 7.0))


def test_tie_of_the_factory_is_kept_if_the_file_agrees(tmp_path: Path) -> None:
    model = Tied()
    torch.save(model.state_dict(), tmp_path / "tied.pt")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["head.weight"] += 1
    torch.save(state, tmp_path / "apart.pt")

    tied = modswap.load(tmp_path / "tied.pt", "tests.models:Tied")
    apart = modswap.load(tmp_path / "apart.pt", "tests.models:Tied")

    assert isinstance(tied, Tied)
    assert isinstance(apart, Tied)
    assert tied.head.weight is tied.embed.weight
    assert torch.equal(apart.head.weight, state["head.weight"])


def custom(folder: Path) -> tuple[Path, Path]:
    """Swap in a class from outside; return the file before and after."""
    file, out = weights(folder), folder / "out.pt"
    recipe = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        "replace: [{match: '*_attention', with: 'tests.models:ChannelsLastMixer'}]\n",
        "swap.yaml",
        ".",
    )
    outcome = replace_file(Job(Subject(file, factory="tests.models:build_gated"), recipe, out))
    assert outcome.error is None
    assert {site.new_class for site in outcome.sites} == {"tests.models.ChannelsLastMixer"}
    return file, out


def test_class_that_a_file_names_is_imported_only_if_it_is_allowed(tmp_path: Path) -> None:
    _, out = custom(tmp_path)

    with pytest.raises(UnsafeError, match=r"allow=\['tests\.models\.ChannelsLastMixer'\]"):
        modswap.load(out, "tests.models:build_gated")
    with pytest.raises(UsageError, match=r"^allow: '\*' is no package"):
        modswap.load(out, "tests.models:build_gated", allow=["*"])
    model = modswap.load(out, "tests.models:build_gated", allow=["tests.models.*"])

    assert model(torch.randn(1, 3, 8, 8)).shape == (1, 2, 4, 4)


HOSTILE = """
import pathlib
from torch import nn

class Net(nn.Module):
    def __init__(self, file):
        super().__init__()
        pathlib.Path(file).touch()

class Data:
    pass
"""


@pytest.mark.parametrize("way", ["receipt", "recipe"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("hostile_nets.nets:Net", "asked to write the file"),
        ("hostile_nets.nets:Data", "is no layer of the allowed package"),
        ("hostile_nets.__main__:Net", "is no layer of the allowed package"),
        ("hostile_nets.py:Net", "is no layer of the allowed package"),
    ],
)
def test_layer_that_a_file_chooses_from_a_package_reaches_no_file(
    way: str, name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hostile_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(HOSTILE)
    (package / "__main__.py").write_text(f"{HOSTILE}\nNet('canary')\n")
    (tmp_path / "hostile_nets.py").write_text(f"{HOSTILE}\nNet('canary')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    args = {"file": str(tmp_path / "canary")}
    site = SiteRecord(paths=("head",), module=name, args=args)
    recipe = (
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        f"replace: [{{match: head, with: '{name}', args: {args}}}]\n"
    )
    records = {"recipe": recipe, "receipt": ""}
    if way == "receipt":
        records["receipt"] = Receipt(modswap="1", torch="2", sites=(site,)).text()
    torch.save({"state_dict": GatedNet().state_dict(), "modswap": records}, tmp_path / "net.pt")

    with pytest.raises(ModswapError, match=what):
        modswap.load("net.pt", "tests.models:build_gated", allow=["hostile_nets.*"])

    assert not [*tmp_path.glob("canary*")]


@pytest.mark.parametrize("way", ["receipt", "recipe"])
def test_layer_of_torch_in_a_file_may_not_be_larger_than_the_file(way: str, tmp_path: Path) -> None:
    args = {"in_features": 10**6, "out_features": 10**6}
    site = SiteRecord(paths=("head",), module="torch.nn:Linear", args=args)
    recipe = (
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        f"replace: [{{match: head, with: 'torch.nn:Linear', args: {args}}}]\n"
    )
    records = {"recipe": recipe, "receipt": ""}
    if way == "receipt":
        records["receipt"] = Receipt(modswap="1", torch="2", sites=(site,)).text()
    torch.save({"state_dict": GatedNet().state_dict(), "modswap": records}, tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match=r"(more|weights,) (weights|more) than the file"):
        modswap.load(tmp_path / "net.pt", "tests.models:build_gated")


@pytest.mark.parametrize("name", ["torch.nn:functional", "torch.nn:Parameter", "torch:load"])
def test_name_of_torch_that_is_no_layer_is_not_built(name: str, tmp_path: Path) -> None:
    site = SiteRecord(paths=("head",), module=name, args={})
    records = {"recipe": "", "receipt": Receipt(modswap="1", torch="2", sites=(site,)).text()}
    torch.save({"state_dict": GatedNet().state_dict(), "modswap": records}, tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match="which a file may not import by itself"):
        modswap.load(tmp_path / "net.pt", "tests.models:build_gated")


def test_recipe_inside_a_file_without_a_receipt_is_applied(tmp_path: Path) -> None:
    recipe = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        "replace: [{match: head, with: 'tests.models:Moody', args: {out_channels: 2}}]\n",
        "swap.yaml",
        ".",
    )
    model = modswap.apply_recipe(GatedNet(), recipe)
    modswap.save(model, tmp_path / "net.safetensors", recipe=recipe)

    with pytest.raises(UnsafeError, match=r"allow=\['tests\.models\.Moody'\]"):
        modswap.load(tmp_path / "net.safetensors", "tests.models:build_gated")
    allowed = ["tests.models.Moody"]
    loaded = modswap.load(tmp_path / "net.safetensors", "tests.models:build_gated", allow=allowed)

    assert type(loaded.get_submodule("head")).__name__ == "Moody"


def test_receipt_that_does_not_fit_the_factory_is_reported(tmp_path: Path) -> None:
    site = SiteRecord(paths=("nowhere",), module="BiLevelRoutingAttention", args={"dim": 8})
    receipt = Receipt(modswap="1", torch="2", sites=(site,)).text()
    state = {"state_dict": GatedNet().state_dict(), "modswap": {"recipe": "", "receipt": receipt}}
    torch.save(state, tmp_path / "net.pt")

    fault = "no module 'nowhere' in GatedNet, where the receipt inside has a new one; build the"
    with pytest.raises(ModswapError, match=fault):
        modswap.load(tmp_path / "net.pt", "tests.models:build_gated")


def test_damaged_receipt_is_reported(tmp_path: Path) -> None:
    state = {"state_dict": GatedNet().state_dict(), "modswap": {"receipt": "{"}}
    torch.save(state, tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match="the receipt inside is damaged"):
        modswap.load(tmp_path / "net.pt", "tests.models:build_gated")


def test_factory_is_passed_over_where_the_file_holds_a_module(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")

    assert isinstance(modswap.load(tmp_path / "net.pt", "nosuch:thing"), nn.Linear)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("with: BiLevelRoutingAtention", "did you mean 'BiLevelRoutingAttention'?"),
        ("with: Gizmo", "run `modswap catalogue` to list them"),
        ("with: 'torch:float32'", "expected a class derived from torch.nn.Module"),
        ("with: BiLevelRoutingAttention, prefix: att", "has no layers that a prefix could name"),
        ("with: BiLevelRoutingAttention, args: {n_wim: 7}", "did you mean 'n_win'"),
        ("with: BiLevelRoutingAttention, args: {topk: 99, n_win: 2}", "topk"),
        ("with: BiLevelRoutingAttention, args: {dim: 99}", "dim"),
        ("with: 'tests.models:Keep', args: {gian: 1}", "did you mean 'gain'?"),
        ("with: BiLevelRoutingAttention, layout: NLC", "NLC"),
    ],
)
def test_rule_that_cannot_be_built_is_reported(rule: str, message: str, tmp_path: Path) -> None:
    recipe = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        f"replace: [{{match: space_attention, {rule}}}]\n",
        "swap.yaml",
        ".",
    )
    subject = Subject(weights(tmp_path), Policy(), "tests.models:build_gated")

    with pytest.raises(ModswapError) as raised:
        check_file(Job(subject, recipe))

    assert message in str(raised.value)
    assert raised.value.where


def test_one_instance_for_sites_of_two_sizes_is_refused(tmp_path: Path) -> None:
    recipe = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 3, 8, 8]}]\n"
        "replace: [{match: [stem, head], with: 'torch.nn:Conv2d', share: true, "
        "args: {out_channels: auto, kernel_size: 1}}]\n",
        "swap.yaml",
        ".",
    )
    subject = Subject(weights(tmp_path), Policy(), "tests.models:build_gated")

    with pytest.raises(ModswapError):
        check_file(Job(subject, recipe))


def test_what_a_host_put_on_a_module_is_there_again_in_a_model_that_is_built_anew(
    tmp_path: Path,
) -> None:
    torch.save(Detector().state_dict(), tmp_path / "net.pt")
    factory = "tests.models:Detector"
    rule = "replace: [{match: block, with: SEBlock, layout: NCHW}]\n"
    text = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\n{rule}"
    job = Job(
        Subject(tmp_path / "net.pt", Policy(), factory),
        parse_recipe(text, "swap.yaml", "."),
        tmp_path / "out.pt",
    )
    assert replace_file(job).error is None

    block = modswap.load(tmp_path / "out.pt", factory).get_submodule("block")

    assert type(block).__name__ == "SEBlock"
    assert (vars(block)["i"], vars(block)["f"], vars(block)["type"]) == (1, -1, "Sequential")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("os:system", "do not load it unless it is your own: os.system can run any code"),
        ("builtins:exec", "do not load it unless it is your own: builtins.exec can run any code"),
        ("mine.subprocess:Popen", "do not load it unless it is your own: mine.subprocess.Popen"),
        ("mine.nets:Gate", "allow it if you trust that code: allow=['mine.nets.Gate']"),
    ],
)
def test_name_that_runs_code_is_not_proposed_for_allowing(
    name: str, advice: str, tmp_path: Path
) -> None:
    site = SiteRecord(paths=("head",), module=name, args={})
    records = {"recipe": "", "receipt": Receipt(modswap="1", torch="2", sites=(site,)).text()}
    torch.save({"state_dict": GatedNet().state_dict(), "modswap": records}, tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match="may not import by itself") as raised:
        modswap.load(tmp_path / "net.pt", "tests.models:build_gated")

    assert raised.value.fix.startswith(advice)

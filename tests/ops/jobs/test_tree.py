"""Module trees of files: read as data, or of a loaded model with shapes.

Covers: model_tree.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError, UnsafeError, UsageError
from modswap.core.progress import silent
from modswap.ops.jobs.model_tree import build_tree
from modswap.ops.jobs.tree import read_tree
from tests.models import GatedNet, SharedNet

ALLOW = Policy(allow=("tests.models.*",))
IMAGE = (TensorInput(shape=(1, 3, 28, 28)),)


def saved(value: object, folder: Path) -> Path:
    torch.save(value, folder / "net.pt")
    return folder / "net.pt"


def test_file_is_read_as_data_where_nothing_has_to_be_built(tmp_path: Path) -> None:
    file = saved(GatedNet(), tmp_path)

    tree = read_tree(Subject(file))

    assert [row.path for row in tree.rows][:2] == ["", "stem"]
    assert not tree.traced


def test_inputs_give_the_shapes_of_every_call(tmp_path: Path) -> None:
    file = saved(GatedNet(), tmp_path)

    tree = read_tree(Subject(file, ALLOW, None, IMAGE))

    (call,) = next(row for row in tree.rows if row.path == "space_attention").calls
    assert tree.traced
    assert call.output == call.inputs[0]


def test_inputs_that_are_looked_for_are_said(tmp_path: Path) -> None:
    file = saved(GatedNet(), tmp_path)

    tree = read_tree(Subject(file, ALLOW, find_input=True))

    (call,) = next(row for row in tree.rows if row.path == "stem").calls
    assert str(call).startswith("((1, 3, 224, 224))")
    assert tree.notes[0].startswith("no input was given: took (1, 3, 224, 224), a usual one")


def test_second_path_of_a_module_names_the_first(tmp_path: Path) -> None:
    tree = build_tree(Subject(saved(SharedNet(), tmp_path), ALLOW), silent)

    assert next(row for row in tree.rows if row.path == "second").alias_of == "first"


def test_names_of_weights_imply_a_tree(tmp_path: Path) -> None:
    tree = build_tree(Subject(saved(GatedNet().state_dict(), tmp_path)), silent)

    assert "space_attention.0" in [row.path for row in tree.rows]


class Tokens(nn.Module):
    """Parameters beside modules, a tie, and buffers: 328 elements of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 8))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.BatchNorm1d(8)
        self.block = nn.Sequential(nn.Linear(8, 8))
        self.block.gamma = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("ids", torch.arange(4))
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))


BARE = {"": {"pos_embed": 136, "cls_token": 8}, "block": {"gamma": 8}}
KEPT: Mapping[str, Callable[[nn.Module, Path], object]] = {
    "whole.pt": torch.save,
    "state.pth": lambda net, file: torch.save(net.state_dict(), file),
    "half.pth": lambda net, file: torch.save(net.half().state_dict(), file),
    "old.pth": lambda net, file: torch.save(
        net.state_dict(), file, _use_new_zipfile_serialization=False
    ),
    "wrapped.ckpt": lambda net, file: torch.save(
        {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, file
    ),
    "net.safetensors": lambda net, file: save_model(net, str(file)),
    "folder/pytorch_model.bin": lambda net, file: torch.save(net.state_dict(), file),
}


@pytest.mark.parametrize("name", KEPT)
def test_parameters_are_those_of_the_model_in_every_container(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    KEPT[name](Tokens(), file)

    tree = read_tree(Subject(file.parent if "/" in name else file))

    rows = {row.path: row for row in tree.rows}
    assert rows[""].params == counted(Tokens())[0] == 328
    assert {path: row.params for path, row in rows.items() if path.count(".") == 0 and path} == {
        "embed": 88,
        "norm": 16,
        "block": 80,
        "head": 88,
    }
    found = {path: {one.name: one.params for one in row.bare} for path, row in rows.items()}
    assert {path: bare for path, bare in found.items() if bare} == BARE
    assert rows["head"].ties == (("weight", "embed.weight"),)


def test_loaded_model_has_the_same_parameters_beside_modules(tmp_path: Path) -> None:
    file = saved(Tokens().state_dict(), tmp_path)

    tree = read_tree(Subject(file, factory=f"{__name__}:Tokens"))

    found = {row.path: {one.name: one.params for one in row.bare} for row in tree.rows}
    assert {path: bare for path, bare in found.items() if bare} == BARE


def test_further_models_of_a_checkpoint_are_named_in_a_note(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    tree = build_tree(Subject(saved({"model": model, "ema": nn.Linear(2, 2)}, tmp_path)), silent)

    assert any("the file also holds the model under " in note for note in tree.notes)


def test_shapes_of_weights_need_a_factory(tmp_path: Path) -> None:
    file = saved(GatedNet().state_dict(), tmp_path)

    with pytest.raises(UsageError, match="shapes need a model, and the file holds weights"):
        read_tree(Subject(file, inputs=IMAGE))


def test_classes_that_are_not_allowed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match=r"--allow tests\.models\.GatedNet"):
        read_tree(Subject(saved(GatedNet(), tmp_path), inputs=IMAGE))


def test_input_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    wrong = (TensorInput(shape=(1, 5, 28, 28)),)

    with pytest.raises(InputError):
        read_tree(Subject(saved(GatedNet(), tmp_path), ALLOW, None, wrong))


class Tied(nn.Module):
    """Tied weights, a shared module, a buffer that is a weight, a tensor under two names."""

    def __init__(self) -> None:
        super().__init__()
        linear, norm, tied = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False)
        tied.weight = linear.weight
        self.first = nn.Sequential(linear, norm)
        self.second = nn.Sequential(self.first, tied, nn.Identity())
        self.again = nn.Sequential(tied, nn.BatchNorm1d(4), self.first)
        self.other = linear.bias
        self.register_buffer("held", linear.weight)
        self.register_buffer("counted", norm.running_mean)
        self.register_parameter("none", None)


def counted(module: nn.Module) -> tuple[int, int]:
    """Return the parameters and bytes of a module as torch's own walks give them."""
    held = [*module.parameters(), *module.buffers()]
    params = sum(one.numel() for one in module.parameters())
    return params, sum(one.numel() * one.element_size() for one in held)


@pytest.mark.parametrize("make", [Tied, GatedNet, SharedNet])
def test_tensors_that_modules_share_count_once_in_each_row(
    make: type[nn.Module], tmp_path: Path
) -> None:
    model = make()
    wanted = [
        (path, *counted(module)) for path, module in model.named_modules(remove_duplicate=False)
    ]
    file = saved(model, tmp_path)
    policy = Policy(allow=("tests.*",))

    for tree in (read_tree(Subject(file)), build_tree(Subject(file, policy), silent)):
        assert [(row.path, row.params, row.nbytes) for row in tree.rows] == wanted

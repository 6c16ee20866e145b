"""Modules of a file that are too deep, or share their tables."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.core.asked.job import Policy, Subject
from modswap.core.errors import CheckpointError, UsageError
from modswap.io.formats.reading import read
from modswap.io.formats.torch import sound
from modswap.ops.load.model import load
from tests.models import GatedNet


def deep(depth: int = 202) -> nn.Module:
    """Build modules inside modules: (N, 3, H, W) -> (N, 3, H, W)."""
    model: nn.Module = nn.Conv2d(3, 3, 1)
    for _ in range(depth):
        model = nn.Sequential(model)
    return model


def saved(value: object, folder: Path) -> Path:
    most = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # pickling calls itself for each module in another
    try:
        torch.save(value, folder / "net.pt")
    finally:
        sys.setrecursionlimit(most)
    return folder / "net.pt"


@pytest.mark.parametrize("policy", [Policy(), Policy(trust=True)], ids=["screened", "trusted"])
def test_modules_nested_too_deep_are_refused(policy: Policy, tmp_path: Path) -> None:
    file = saved({"model": deep()}, tmp_path)

    with pytest.raises(CheckpointError, match="its modules are nested over 200 deep"):
        read(file, policy)


def test_modules_of_long_names_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("a" * 5_000, nn.Identity())

    with pytest.raises(CheckpointError, match=r"a name in it has 5,000 characters.*shorter names"):
        read(saved(model, tmp_path), Policy())


def test_deepest_modules_are_read(tmp_path: Path) -> None:
    model = modswap.load(saved(deep(200), tmp_path))

    assert sum(1 for _ in model.modules()) == 201


def test_modules_of_a_factory_are_held_to_the_same_bound(tmp_path: Path) -> None:
    file = saved(GatedNet().state_dict(), tmp_path)

    with pytest.raises(UsageError, match=r"test_sound:deep.* nested over 200 deep"):
        load(Subject(file, factory="tests.io.formats.torch.test_sound:deep"))


def test_shallow_copies_get_tables_of_hooks_of_their_own(tmp_path: Path) -> None:
    first = nn.Linear(2, 2)
    model = nn.Sequential(first, copy.copy(first))
    file = saved(model, tmp_path)

    one, other = modswap.load(file).children()

    assert vars(one)["_forward_hooks"] is not vars(other)["_forward_hooks"]
    assert one.weight is other.weight
    ran: list[nn.Module] = []
    one.register_forward_hook(lambda module, *_: ran.append(module))
    other(torch.zeros(1, 2))
    assert ran == []


def test_hooks_that_modules_share_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = nn.utils.spectral_norm(nn.Linear(2, 2))
    file = saved(nn.Sequential(first, *(copy.copy(first) for _ in range(5))), tmp_path)
    monkeypatch.setattr(sound, "_SPARE_HOOKS", 15)  # three hooks of each copy

    assert len(list(modswap.load(file).modules())) == 7
    monkeypatch.setattr(sound, "_SPARE_HOOKS", 14)
    with pytest.raises(CheckpointError, match="its modules share over 14 hooks"):
        modswap.load(file)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Conv2d(3, 3, 1), "in_channels"),
        (nn.Linear(3, 3), "out_features"),
        (nn.BatchNorm2d(3), "num_features"),
        (nn.Embedding(3, 3), "num_embeddings"),
        (nn.GRU(3, 3), "hidden_size"),
        (nn.PixelShuffle(2), "upscale_factor"),
    ],
)
@pytest.mark.parametrize("value", ["x", None, 1.5, [3]])
def test_size_of_a_layer_that_is_no_whole_number_is_refused(
    layer: nn.Module, name: str, value: object, tmp_path: Path
) -> None:
    model = nn.Sequential(copy.deepcopy(layer))
    vars(model[0])[name] = value

    with pytest.raises(CheckpointError, match=f"half made: its '{name}' is a .*, expected a whole"):
        read(saved(model, tmp_path), Policy())


def test_size_that_is_no_size_is_no_bug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (-5, 0, 10**12):
        model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.MultiheadAttention(4, 1))
        vars(model[0])["in_channels"] = number
        vars(model[1])["embed_dim"] = "x"
        file = saved(model, tmp_path)

        code = run(["check", str(file), "--match", "0", "--with", "ECA", "--quiet"])

        assert code in {1, 2}
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [5, ["eca"], ("nowhere",), (5,), None])
def test_module_that_names_none_beside_it_is_refused(names: object, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    modswap.insert(model, after="0", with_="ECA", inputs=[(1, 3, 8, 8)])
    assert modswap.load(saved(model, tmp_path)) is not None
    vars(model[0])["_inserted"] = names

    with pytest.raises(CheckpointError, match="half made: no names of its modules in '_inserted'"):
        modswap.load(saved(model, tmp_path))

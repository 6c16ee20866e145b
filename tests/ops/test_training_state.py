"""Optimizers after a swap: their state loads beside the swapped model, or it is left out.

Covers: write.writer, write.rewrite, write.receipt.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import replace_file
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

ALLOW = ("tests.models.*",)
FACTORY = "tests.models:build_gated"
RECIPE = parse_recipe(
    f"version: 1\ninputs: [{{shape: [2, 3, 28, 28]}}]\n{UNEXAMINED}"
    "replace: [{match: space_attention, with: BiLevelRoutingAttention}]\n",
    "swap.yaml",
    ".",
)
Groups = Callable[[nn.Module], list[dict[str, Any]]]


def one(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(model.parameters())}]


def named(model: nn.Module) -> list[dict[str, Any]]:
    items = list(model.named_parameters())
    late = [item for item in items if item[0].startswith(("space", "head"))]
    return [{"params": late}, {"params": [i for i in items if i not in late], "lr": 1e-4}]


def decayed(model: nn.Module) -> list[dict[str, Any]]:
    held = list(model.parameters())
    return [
        {"params": [p for p in held if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in held if p.ndim < 2], "weight_decay": 0.0},
    ]


def by_kind(model: nn.Module) -> list[dict[str, Any]]:
    held = dict(model.named_parameters())
    bias = [p for n, p in held.items() if n.endswith("bias")]
    return [
        {"params": bias},
        {"params": [p for p in held.values() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for n, p in held.items() if p.ndim < 2 and not n.endswith("bias")]},
    ]


def by_part(model: nn.Module) -> list[dict[str, Any]]:
    head = set(model.get_submodule("head").parameters())
    return [
        {"params": [p for p in model.parameters() if p not in head], "lr": 1e-4},
        {"params": [p for p in model.parameters() if p in head], "lr": 1e-3},
    ]


OPTIMIZERS: dict[str, Callable[[Iterable[Any]], torch.optim.Optimizer]] = {
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-3),
    "SGD": lambda groups: torch.optim.SGD(groups, lr=1e-3, momentum=0.9),
    "Adafactor": lambda groups: torch.optim.Adafactor(groups, lr=1e-3),
}
QUICK = ((one, "AdamW"), (named, "AdamW"), (decayed, "Adafactor"), (by_kind, "SGD"))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.zero_grad()
    model(torch.randn(2, 3, 28, 28)).square().mean().backward()
    optimizer.step()
    return optimizer


def swap(file: Path, factory: str | None = FACTORY) -> tuple[Outcome, Path]:
    out = file.with_name("out.pt")
    subject = Subject(file, Policy(allow=ALLOW), factory)
    outcome = replace_file(Job(subject, RECIPE, out))
    assert outcome.error is None, outcome.error
    return outcome, out


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    return {
        n: dict(optimizer.state[p]) for n, p in model.named_parameters() if p in optimizer.state
    }


@pytest.mark.parametrize(
    ("groups", "make"),
    [
        pytest.param(groups, make, marks=() if (groups, name) in QUICK else pytest.mark.slow)
        for groups in (one, named, decayed, by_kind, by_part)
        for name, make in OPTIMIZERS.items()
    ],
)
def test_moments_stay_with_their_parameters(
    groups: Groups, make: Callable[[Iterable[Any]], torch.optim.Optimizer], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = GatedNet()
    old = stepped(model, make(groups(model)))
    file = tmp_path / "net.pt"
    torch.save({"model": model.state_dict(), "optimizer": old.state_dict()}, file)

    outcome, out = swap(file)

    swapped = modswap.load(out, FACTORY)
    new = make(groups(swapped))
    written = torch.load(out, weights_only=True)  # noqa: TID251 - another reader's view
    new.load_state_dict(written["optimizer"])
    before, after = moments(model, old), moments(swapped, new)
    kept = [name for name in before if not name.startswith("space_attention")]
    assert list(after) == [n for n, _ in swapped.named_parameters() if n in kept]
    for name in kept:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
    assert "'optimizer' was remapped by name: the state of 8 parameters kept" in outcome.notes[-1]
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    stepped(swapped, new)
    assert len(moments(swapped, new)) == len(list(swapped.parameters()))


def test_state_under_names_keeps_its_names(tmp_path: Path) -> None:
    model = GatedNet()
    state = stepped(model, torch.optim.Adam(model.parameters())).state_dict()
    names = [f"module.{name}" for name, _ in model.named_parameters()]
    by_name: dict[str, Any] = {
        "state": {names[number]: entry for number, entry in state["state"].items()},
        "param_groups": [{**state["param_groups"][0], "params": names}],
    }
    torch.save({"model": model.state_dict(), "optim": by_name}, tmp_path / "net.pt")

    _, out = swap(tmp_path / "net.pt")

    written = torch.load(out, weights_only=True)["optim"]  # noqa: TID251 - another reader's view
    swapped = modswap.load(out, FACTORY)
    held = [f"module.{name}" for name, _ in swapped.named_parameters()]
    assert written["param_groups"][0]["params"] == held
    assert written["state"].keys() == {n for n in names if "space_attention" not in n}
    name = "module.head.weight"
    assert torch.equal(written["state"][name]["exp_avg"], by_name["state"][name]["exp_avg"])


def test_frozen_parameters_that_the_optimizer_never_had_stay_out(tmp_path: Path) -> None:
    model = GatedNet()
    model.stem.requires_grad_(requires_grad=False)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    stepped(model, optimizer)
    torch.save({"model": model, "optimizer": optimizer.state_dict()}, tmp_path / "net.pt")

    _, out = swap(tmp_path / "net.pt", None)

    swapped = modswap.load(out, allow=ALLOW)
    new = torch.optim.Adam(p for p in swapped.parameters() if p.requires_grad)
    written = torch.load(out, weights_only=False)  # noqa: TID251 - another reader's view
    new.load_state_dict(written["optimizer"])
    weight = swapped.get_parameter("head.weight")
    old = optimizer.state[model.head.weight]
    assert torch.equal(new.state[weight]["exp_avg"], old["exp_avg"])


def shuffled(model: nn.Module) -> list[dict[str, Any]]:
    held = list(model.parameters())
    return [{"params": held[1:] + held[:1]}]


def half(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(model.parameters())[:5]}]


@pytest.mark.parametrize("groups", [shuffled, half])
def test_optimizer_with_ambiguous_parameters_is_left_out(groups: Groups, tmp_path: Path) -> None:
    model = GatedNet()
    state = stepped(model, torch.optim.Adam(groups(model))).state_dict()
    torch.save({"model": model.state_dict(), "optimizer": state, "epoch": 3}, tmp_path / "net.pt")

    outcome, out = swap(tmp_path / "net.pt")

    written = torch.load(out, weights_only=True)  # noqa: TID251 - another reader's view
    assert [*written] == ["model", "epoch", "modswap"]
    assert outcome.notes[-1].startswith("'optimizer' was left out: its state cannot be assigned")


@pytest.mark.parametrize(
    "state",
    [
        {"state": {}, "param_groups": 3},
        {"state": {}, "param_groups": []},
        {"state": {}, "param_groups": [{"params": 3}]},
        {"state": {}, "param_groups": [{"params": [0.5]}]},
        {"state": [], "param_groups": [{"params": [0]}]},
        {"state": {99: {}}, "param_groups": [{"params": list(range(10))}]},
        {"state": {}, "param_groups": [{"params": [0, 1], "param_names": ["stem.weight", "x"]}]},
        {"state": {0: {"a": torch.eye(2).to_sparse()}}, "param_groups": [{"params": [*range(12)]}]},
    ],
)  # fmt: skip
def test_odd_optimizer_is_left_out(state: Any, tmp_path: Path) -> None:
    torch.save({"model": GatedNet().state_dict(), "optimizer": state}, tmp_path / "net.pt")

    outcome, out = swap(tmp_path / "net.pt")

    assert "optimizer" not in torch.load(out, weights_only=True)  # noqa: TID251 - another reader
    assert "was left out" in outcome.notes[-1]


def test_lists_of_optimizers_and_schedulers_are_kept_in_order(tmp_path: Path) -> None:
    model = GatedNet()
    good = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(good, 3)
    stepped(model, good)
    odd = torch.optim.Adam(half(model)).state_dict()
    checkpoint = {
        "state_dict": model.state_dict(),
        "optimizer_states": [odd, good.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "loops": {"fit_loop": {"state_dict": {}}},
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(checkpoint, tmp_path / "net.pt")

    outcome, out = swap(tmp_path / "net.pt")

    written = torch.load(out, weights_only=True)  # noqa: TID251 - another reader's view
    first, second = written["optimizer_states"]
    assert first == {"state": {}, "param_groups": []}
    swapped = modswap.load(out, FACTORY)
    torch.optim.Adam(swapped.parameters()).load_state_dict(second)
    for key in ("lr_schedulers", "loops", "hyper_parameters"):
        assert written[key] == checkpoint[key]
    assert sum("optimizer_states" in note for note in outcome.notes) == 2


def test_list_of_nothing_but_lost_optimizers_is_emptied(tmp_path: Path) -> None:
    model = GatedNet()
    odd = torch.optim.Adam(half(model)).state_dict()
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [odd]}, tmp_path / "net.pt")

    _, out = swap(tmp_path / "net.pt")

    written = torch.load(out, weights_only=True)  # noqa: TID251 - another reader's view
    assert written["optimizer_states"] == []


def test_average_of_the_weights_is_swapped_as_well(tmp_path: Path) -> None:
    model = GatedNet()
    average = AveragedModel(model)
    average.update_parameters(model)
    checkpoint = {"model": model.state_dict(), "ema": average.state_dict()}
    torch.save(checkpoint, tmp_path / "net.pt")

    _, out = swap(tmp_path / "net.pt")

    written = torch.load(out, weights_only=True)  # noqa: TID251 - another reader's view
    swapped = AveragedModel(modswap.load(out, FACTORY))
    swapped.load_state_dict(written["ema"])
    assert int(swapped.n_averaged) == 1
    assert torch.equal(swapped.module.get_parameter("head.weight"), model.head.weight)

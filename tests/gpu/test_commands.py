"""Commands and functions on a GPU: devices, seeds, autocast, files that were saved there."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run

SHAPE = "1,8,14,14"
RULES = {
    "BiLevelRoutingAttention": ["--set", "n_win=7", "--set", "topk=4"],
    "ACmix": [],
    "CBAM": [],
    "CoordinateAttention": [],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))


def locations(file: str) -> set[str]:
    """Return the devices that a file's storages are tagged with."""
    found: set[str] = set()

    def note(storage: Any, tag: str) -> Any:
        found.add(tag)
        return storage

    torch.load(file, map_location=note, weights_only=False)  # noqa: TID251 - as others load it
    return found


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("more", [[], ["--thorough"]], ids=["usual", "thorough"])
def test_check_runs_on_the_device(name: str, more: list[str]) -> None:
    torch.save(net(), "net.pt")
    rule = ["--match", "1", "--with", name, *RULES[name], "--input", SHAPE]

    assert run(["check", "net.pt", *rule, "--device", "cuda", *more]) == 0


def test_file_from_a_gpu_keeps_its_tags_and_loads_on_the_cpu() -> None:
    torch.save(net().cuda(), "net.pt")
    rule = ["--match", "1", "--with", "ECA", "--input", SHAPE]

    assert run(["replace", "net.pt", *rule, "-o", "out.pt", "-q"]) == 0

    assert locations("net.pt") == locations("out.pt") == {"cuda:0"}
    loaded = torch.load("out.pt", map_location="cpu", weights_only=False)  # noqa: TID251 - as above
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}


def test_swap_of_a_model_on_a_gpu_stays_there() -> None:
    model = net().cuda()

    outcome = modswap.replace(model, match="1", with_="ACmix", inputs=[(1, 8, 14, 14)])

    assert outcome.verdict is not None
    assert outcome.verdict.ok
    assert {p.device.type for p in model.parameters()} == {"cuda"}


def test_random_state_of_the_gpu_is_as_before() -> None:
    model = net().cuda()
    before = torch.cuda.get_rng_state()

    modswap.replace(model, match="1", with_="CBAM", inputs=[(1, 8, 14, 14)])

    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_layers_run_under_autocast_in_both_ways() -> None:
    from modswap.nn import ACmix, BiLevelRoutingAttention
    from modswap.nn.gpu import gpu_way
    from modswap.nn.gpu.launches import counted

    routed = BiLevelRoutingAttention(16, num_heads=2, n_win=2, topk=2, layout="NCHW").cuda()
    for layer, channels in ((routed, 16), (ACmix(8, 8).cuda(), 8)):
        x = torch.randn(1, channels, 8, 8, device="cuda")
        exact = copy.deepcopy(layer).double()(x.double())
        for way in ("windows", "fused"):
            with gpu_way(way), counted() as names, torch.autocast("cuda", torch.bfloat16):
                y = layer(x)
            assert bool(names) is (way == "fused")
            torch.testing.assert_close(
                y.double(), exact, rtol=0, atol=0.1 * float(exact.abs().max())
            )


def test_determinism_is_examined_with_torchs_own_switch() -> None:
    from modswap.nn import ACmix, BiLevelRoutingAttention
    from modswap.nn.gpu import gpu_way

    routed = BiLevelRoutingAttention(16, num_heads=2, n_win=2, topk=2, layout="NCHW").cuda()
    acmix = ACmix(8, 8).cuda()
    torch.use_deterministic_algorithms(True)
    try:
        for layer, channels in ((routed, 16), (acmix, 8)):
            x = torch.randn(1, channels, 8, 8, device="cuda")
            found = []
            for _ in range(2):
                layer.zero_grad()
                with gpu_way("fused"):
                    layer(x).sum().backward()
                found.append([p.grad for p in layer.parameters() if p.grad is not None])
            assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        with gpu_way("windows"):
            routed(torch.randn(1, 16, 8, 8, device="cuda")).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)

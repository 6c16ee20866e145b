"""The demonstration: its network, its images, and a small run of it.

Covers: data, network, run, train.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.cli.app import run
from modswap.core.errors import UsageError
from modswap.ops.demo import data
from modswap.ops.demo.network import GatedUNetPlusPlus, build_network

needs_images = pytest.mark.skipif(
    find_spec("sklearn") is None,
    reason="scikit-learn, which ships the images, is not installed (extra: demo)",
)


def test_network_gives_logits_for_every_pixel() -> None:
    network = build_network(classes=5, in_channels=1, base_width=4).eval()

    assert network(torch.randn(2, 1, 32, 48)).shape == (2, 5, 32, 48)


def test_deepest_map_has_the_size_of_the_case() -> None:
    network = build_network().eval()
    seen: list[torch.Size] = []
    network.channel_attention.register_forward_hook(lambda m, a, out: seen.append(out.shape))

    with torch.no_grad():
        network(torch.randn(1, 3, 224, 224))

    assert seen == [(1, 512, 14, 14)]


def test_gates_compute_what_the_case_says() -> None:
    network = GatedUNetPlusPlus(2, base_width=2).eval()
    x = torch.randn(2, 32, 4, 4)

    weight = nn.AdaptiveMaxPool2d(1)(x).sigmoid()
    expected = x + network.channel_attention(x * weight)
    weight = expected.max(dim=1, keepdim=True).values.sigmoid()
    expected = expected + network.space_attention(expected * weight)

    torch.testing.assert_close(network.gated(x), expected)


@pytest.mark.slow
@needs_images
def test_scenes_are_repeatable_and_labelled() -> None:
    train, test = data.make_scenes(6, 4, seed=1)
    again, _ = data.make_scenes(6, 4, seed=1)

    assert train.images.shape == (6, 3, data.SCENE_PIXELS, data.SCENE_PIXELS)
    assert test.labels.shape == (4, data.SCENE_PIXELS, data.SCENE_PIXELS)
    assert torch.equal(train.images, again.images)
    assert all(len(labels.unique()) == 2 for labels in train.labels)
    assert int(train.labels.max()) <= 10


def test_missing_images_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(UsageError, match=r"pip install 'modswap\[demo\]'"):
        data.make_scenes(1, 1)


@needs_images
@pytest.mark.slow
@pytest.mark.ci
def test_demo_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modswap.ops.demo.run.TRAIN", 40)
    monkeypatch.setattr("modswap.ops.demo.run.TEST", 8)

    code = run(["demo", "--width", "2", "--steps", "3", "--no-color"])

    said = capsys.readouterr().out
    assert code == 0
    assert "OK  2 sites swapped in modswap-demo/unetpp.pt" in said
    assert "before the swap" in said
    assert "OK  2 sites healed in modswap-demo/unetpp-bra.pt" in said
    assert sorted(file.name for file in Path("modswap-demo").iterdir()) == [
        "scenes.npy",
        "unetpp-bra.pt",
        "unetpp-healed.pt",
        "unetpp-training.pt",
        "unetpp.pt",
    ]
    assert run(["tree", "modswap-demo/unetpp-training.pt", "--depth", "1"]) == 0

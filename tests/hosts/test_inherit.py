"""Weights of other libraries' modules that new modules inherit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.ops.examine.table import examination_names
from modswap.ops.recipes import parse_recipe
from tests.old_modules import randomised

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # the libraries' own

IMAGE = (2, 3, 64, 64)
ROUTED = "with: BRA, args: {n_win: 4, topk: 16}, start: inherit"
WINDOW = "with: WindowAttention, args: {window_size: 4}, start: inherit"
PLAIN = "with: MHSA, start: inherit, adapt: true"


def vit(**options: Any) -> nn.Module:
    """Return a small vision transformer of timm without a class token."""
    timm = pytest.importorskip("timm")
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", class_token=False, global_pool="avg", img_size=64, depth=2,
        embed_dim=48, **options,
    )  # fmt: skip
    return model


def swin() -> nn.Module:
    """Return a small Swin transformer of timm."""
    timm = pytest.importorskip("timm")
    model: nn.Module = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(1, 1), embed_dim=24,
        num_heads=(2, 4),
    )  # fmt: skip
    return model


def between(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with a module between two convolutions."""
    return nn.Sequential(nn.Conv2d(3, 32, 1), make(), nn.Conv2d(32, 4, 1))


def of_timm(path: str, **options: Any) -> nn.Module:
    """Return a network with a layer of timm, `module:Class`, in it."""
    module, _, name = path.partition(":")
    layers = pytest.importorskip(f"timm.layers.{module}")
    return between(partial(getattr(layers, name), 32, **options))


def of_ultralytics(name: str, *args: Any) -> nn.Module:
    """Return a network with a block of Ultralytics in it."""
    blocks = pytest.importorskip("ultralytics.nn.modules.block")
    return between(partial(getattr(blocks, name), 32, *args))


def of_transformers(name: str, **options: Any) -> nn.Module:
    """Return a small model of transformers."""
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        hidden_size=48, num_attention_heads=4, num_hidden_layers=2, intermediate_size=64, **options
    )
    model: nn.Module = getattr(transformers, f"{name}Model")(config)
    return model


CASES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "timm ViT to BRA": (vit, "blocks.*.attn", ROUTED),
    "timm ViT to refactored BRA": (
        vit, "blocks.*.attn", ROUTED.replace("n_win", "variant: refactored, n_win"),
    ),
    "timm ViT to windows": (vit, "blocks.*.attn", WINDOW),
    "timm ViT without biases": (partial(vit, qkv_bias=False), "blocks.*.attn", ROUTED),
    "timm Swin to windows": (
        swin, "layers.*.blocks.0.attn",
        "with: WindowAttention, start: inherit, layout: NLC, grid: [4, 4]",
    ),
    "transformers ViT": (partial(of_transformers, "ViT", image_size=64), "**.attention", PLAIN),
    "transformers DINOv2": (
        partial(of_transformers, "Dinov2", image_size=64, patch_size=16), "**.layer.*.attention",
        PLAIN,
    ),
    "transformers BERT": (partial(of_transformers, "Bert"), "**.attention.self", PLAIN),
    "YOLO11's attention": (
        partial(of_ultralytics, "Attention", 2), "1",
        "with: BRA, args: {n_win: 4, topk: 16}, start: inherit",
    ),
    "timm CBAM": (partial(of_timm, "cbam:CbamModule"), "1", "with: CBAM, start: inherit"),
    "timm SE": (partial(of_timm, "squeeze_excite:SEModule"), "1", "with: SEBlock, start: inherit"),
    "timm ECA": (
        partial(of_timm, "eca:EcaModule"), "1", "with: ECA, start: inherit, layout: NCHW",
    ),
    "timm coordinates": (
        partial(of_timm, "coord_attn:CoordAttn"), "1", "with: CoordinateAttention, start: inherit",
    ),
}  # fmt: skip


def swapped(model: Any, match: str, rule: str, shape: str) -> None:
    verify = f"verify: {{skip: [{', '.join(examination_names())}]}}"
    text = f"version: 1\n{verify}\ninputs: [{{shape: {shape}}}]\n"
    text += f"replace: [{{match: '{match}', {rule}}}]\n"
    modswap.replace(model, parse_recipe(text, "swap.yaml", "."))


def output(model: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(x)
    tensor: torch.Tensor = getattr(found, "last_hidden_state", found)
    return tensor


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.ci] * (n == "transformers ViT")) for n in CASES]
)
def test_module_of_another_library_is_inherited(name: str) -> None:
    make, match, rule = CASES[name]
    torch.manual_seed(0)
    model = make()
    model = model.eval() if "transformers" in name else randomised(model)
    words = "BERT" in name
    x = torch.randint(0, 99, (2, 16)) if words else torch.randn(IMAGE)
    before = output(model, x)

    swapped(model, match, rule, "[2, 16], dtype: int64" if words else str(list(IMAGE)))

    assert (output(model, x) - before).norm() < 1e-5 * before.norm()


def test_attention_of_timm_comes_back() -> None:
    model = randomised(vit())
    x = torch.randn(IMAGE)
    before = output(model, x)
    first = {name: value.clone() for name, value in model.blocks[0].attn.state_dict().items()}

    for rule in (ROUTED, WINDOW, PLAIN):
        swapped(model, "blocks.*.attn", rule, str(list(IMAGE)))

    last = model.blocks[0].attn.state_dict()
    assert all(torch.equal(value, last[f"module.{name}"]) for name, value in first.items())
    assert (output(model, x) - before).norm() < 1e-5 * before.norm()


def test_convolution_of_ultralytics_is_inherited() -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    model = randomised(tasks.DetectionModel("yolov8n.yaml", verbose=False))
    x = torch.randn(1, 3, 64, 64)
    before = model.model[2].cv1.conv(torch.ones(1, 32, 9, 9))

    swapped(model, "model.2.cv1.conv", "with: ACmix, start: inherit", "[1, 3, 64, 64]")

    after = model.model[2].cv1.conv(torch.ones(1, 32, 9, 9))
    assert (after - before).norm() < 1e-5 * before.norm()
    assert len(model(x)) > 0

"""Find the size rules of models; prints sizes tried, seconds and rules, before and after a swap.

    python benchmarks/size_rule.py

Models of timm, segmentation-models-pytorch and ultralytics are left out where these are missing.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import tests.hosts.conftest  # noqa: F401 - it makes the libraries importable
from modswap.ops.demo.network import GatedUNetPlusPlus
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.sizes import sizes
from modswap.ops.recipes import parse_recipe
from modswap.ops.swap import prepare, verified
from tests.models import GatedNet
from tests.ops.examine.test_sizes import MAPS, SAME

GATES = "{match: '*_attention', with: BiLevelRoutingAttention, args: {n_win: 7, auto_pad: %s}}"


class Subject(NamedTuple):
    """A model, the rule of a swap, and the shape of an input."""

    name: str
    build: Callable[[], nn.Module]
    rule: str
    shape: tuple[int, ...]


def subjects() -> Iterator[Subject]:
    """Yield the models that are installed."""
    demo = (1, 3, 224, 224)
    yield Subject("demo network", lambda: GatedUNetPlusPlus(11), GATES % "true", demo)
    yield Subject("demo, no padding", lambda: GatedUNetPlusPlus(11), GATES % "false", demo)
    yield Subject("gates of the tests", GatedNet, "{match: '*_attention', with: SEBlock}", demo)
    for name, (build, size, _) in MAPS.items():
        yield Subject(name, build, SAME, (1, 4, *size))
    if find_spec("timm"):
        yield from _timm()
    if find_spec("segmentation_models_pytorch"):
        yield from _segmentation()
    if find_spec("ultralytics"):
        from ultralytics.nn.tasks import DetectionModel

        rule = "{match: 'model.9', with: CBAM}"
        yield Subject("yolo11n", lambda: DetectionModel("yolo11n.yaml", verbose=False), rule, demo)


def _timm() -> Iterator[Subject]:
    import timm

    def of(name: str, **options: Any) -> Callable[[], nn.Module]:
        return lambda: timm.create_model(name, **options)

    image = (1, 3, 224, 224)
    yield Subject("resnet18", of("resnet18"), "{match: 'layer4.*.conv2', with: ACmix}", image)
    tokens = "{match: 'blocks.0.attn', with: SelfAttention}"
    yield Subject("vit_tiny", of("vit_tiny_patch16_224"), tokens, image)
    free = of("vit_tiny_patch16_224", class_token=False, global_pool="avg", dynamic_img_size=True)
    yield Subject("vit_tiny, any size", free, tokens, image)
    args = "{in_channels: 768, out_channels: 768, kernel_size: 3, padding: 1, groups: 768}"
    swap = f"{{match: 'stages.3.blocks.0.conv_dw', with: 'torch.nn:Conv2d', args: {args}}}"
    yield Subject("convnext_tiny", of("convnext_tiny"), swap, image)
    windows = "{match: 'layers.3.blocks.0.attn', with: WindowAttention}"
    yield Subject("swin_tiny", of("swin_tiny_patch4_window7_224"), windows, image)
    yield Subject(
        "mobilenetv3", of("mobilenetv3_small_100"), "{match: 'blocks.1.0.se', with: ECA}", image
    )


def _segmentation() -> Iterator[Subject]:
    import segmentation_models_pytorch as smp

    def build() -> nn.Module:
        model: nn.Module = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse")
        return model

    rule = "{match: 'decoder.blocks.0.attention1.attention', with: SEBlock}"
    yield Subject("smp Unet", build, rule, (1, 3, 224, 224))


def line(subject: Subject) -> str:
    """Return the results of a model, or why there are none."""
    text = f"version: 1\ninputs: [{{shape: {list(subject.shape)}}}]\nreplace: [{subject.rule}]\n"
    recipe = parse_recipe(text, "swap.yaml", ".")
    model = subject.build().eval()
    prepared = prepare(model, recipe, unreal=True)
    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, recipe)
        started = time.perf_counter()
        (found,) = sizes(bench)
        seconds = time.perf_counter() - started
    if found.status == "skipped":
        return f"{subject.name:28} {found.what}"
    probes = found.data["probes"]
    rules = f"{found.data['rule']} | {found.data['original']}"
    return f"{subject.name:28} {probes:5} {seconds:8.2f}  {rules}"


def main() -> None:
    """Print a line for each model."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.stdout.write(f"{'model':28} sizes  seconds  rule after the swap | before\n")
    for subject in subjects():
        sys.stdout.write(line(subject) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

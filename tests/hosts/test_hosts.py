"""Tests on models of host libraries: tree, check, replace, load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.patterns import compile_pattern
from modswap.core.errors import ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.jobs.tree import read_tree

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own
NARROWER = "verify: {sizes: narrower}\n"


class Host:
    """A host model in a file, and the four things that are done to it."""

    def __init__(self, folder: Path, payload: Any, allow: Sequence[str]) -> None:
        self.file, self.out = folder / "host.pt", folder / "swapped.pt"
        self.policy = Policy(allow=tuple(allow))
        torch.save(payload, self.file)

    def swap(self, rule: str, shape: Sequence[int], verify: str = "") -> Outcome:
        """Show the tree, check, replace and return the outcome."""
        text = f"version: 1\ninputs: [{{shape: {list(shape)}}}]\nreplace:\n{rule}{verify}"
        recipe = parse_recipe(text, "swap.yaml", ".")
        subject = Subject(self.file, self.policy)
        assert len(read_tree(subject).rows) > 10
        checked = check_file(Job(subject, recipe))
        assert checked.error is None
        outcome = replace_file(Job(subject, recipe, self.out))
        assert outcome.error is None
        assert outcome.ledger is not None
        assert outcome.ledger.proved
        assert checked.sites == outcome.sites
        return outcome

    def load(self) -> nn.Module:
        """Return the swapped model."""
        return modswap.load(self.out, allow=self.policy.allow).eval()


def sizes_of(outcome: Outcome) -> str:
    """Return what the report says of the input sizes."""
    assert outcome.verdict is not None
    return next(found.what for found in outcome.verdict.findings if found.check == "sizes")


def only_in(library: str) -> Any:
    return pytest.importorskip(library, reason=f"{library} is not installed (extra: hosts)")


@torch.no_grad()
def test_unet_of_segmentation_models_with_scse_gates(tmp_path: Path) -> None:
    smp = only_in("segmentation_models_pytorch")
    model = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse").eval()
    host = Host(tmp_path, model, ["segmentation_models_pytorch.*", "torchvision.*"])

    outcome = host.swap(
        '  - {match: "decoder.blocks.*.attention{1,2}", class: Attention, '
        'where: {height: "<=32"}, with: BiLevelRoutingAttention}\n',
        (1, 3, 128, 128),
    )

    assert len(outcome.sites) == 6
    assert {site.layout for site in outcome.sites} == {"NCHW"}
    assert host.load()(torch.randn(2, 3, 96, 128)).shape == (2, 1, 96, 128)


@torch.no_grad()
def test_vit_of_timm_with_dynamic_size(tmp_path: Path) -> None:
    timm = only_in("timm")
    model = timm.create_model(
        "vit_tiny_patch16_224", dynamic_img_size=True, class_token=False, global_pool="avg"
    ).eval()
    host = Host(tmp_path, model, ["timm.*", "functools.partial"])

    outcome = host.swap(
        '  - {match: "blocks.{0,5}.attn", with: BiLevelRoutingAttention}\n',
        (1, 3, 224, 224),
        NARROWER,  # the tokens of a map that is not square do not say its sides
    )

    assert {site.layout for site in outcome.sites} == {"NLC"}
    assert "divisible by 16, with H = W; the original took" in sizes_of(outcome)
    assert host.load()(torch.randn(1, 3, 160, 160)).shape == (1, 1000)


def test_vit_of_timm_with_a_class_token_is_refused(tmp_path: Path) -> None:
    timm = only_in("timm")
    model = timm.create_model("vit_tiny_patch16_224").eval()
    host = Host(tmp_path, model, ["timm.*", "functools.partial"])

    with pytest.raises(ShapeError, match=r"197 tokens.*class token"):
        host.swap('  - {match: "blocks.0.attn", with: BiLevelRoutingAttention}\n', (1, 3, 224, 224))


@torch.no_grad()
def test_vit_of_timm_with_a_class_token_takes_attention_over_all_tokens(tmp_path: Path) -> None:
    timm = only_in("timm")
    model = timm.create_model("vit_tiny_patch16_224").eval()
    host = Host(tmp_path, model, ["timm.*", "functools.partial"])
    rule = '  - {match: "blocks.*.attn", with: MultiHeadSelfAttention, '
    rule += "args: {num_heads: 3, qkv_bias: true}}\n"
    x = torch.randn(2, 3, 224, 224)

    outcome = host.swap(rule, (1, 3, 224, 224))

    assert len(outcome.sites) == 12
    swapped = host.load()
    assert not torch.allclose(swapped(x), model(x))
    for block in range(12):  # names and equations are the same
        old = model.get_submodule(f"blocks.{block}.attn").state_dict()
        swapped.get_submodule(f"blocks.{block}.attn.module").load_state_dict(old)
    torch.testing.assert_close(swapped(x), model(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_layers_named_by_a_prefix_are_found_in_a_vit_of_timm(tmp_path: Path) -> None:
    timm = only_in("timm")
    model = timm.create_model("vit_tiny_patch16_224").eval()
    host = Host(tmp_path, model, ["timm.*", "functools.partial"])
    rule = '  - {match: "blocks.{0,1}.attn", with: SelfAttention, prefix: att}\n'

    host.swap(rule, (1, 3, 224, 224))

    tree = read_tree(Subject(host.out, host.policy))
    layers = compile_pattern("**.att_*", "--match")
    assert [row.path for row in tree.rows if layers.matches(row.path)] == [
        f"blocks.{block}.attn.module.att_{layer}"  # behind what drops `attn_mask`
        for block in (0, 1)
        for layer in ("multi_head_attention", "add", "layer_normalization")
    ]


@torch.no_grad()
def test_strided_convolutions_of_a_resnet_of_timm_become_acmix(tmp_path: Path) -> None:
    timm = only_in("timm")
    model = timm.create_model("resnet18").eval()
    host = Host(tmp_path, model, ["timm.*", "functools.partial"])

    outcome = host.swap(
        '  - {match: "layer{3,4}.*.conv1", with: ACmix}\n',
        (1, 3, 96, 128),
        NARROWER,  # a map of 2 rows cannot be reflected at a window of 5
    )

    assert "it takes H and W at least 65; the original took any" in sizes_of(outcome)
    swapped = host.load()
    first = swapped.get_submodule("layer4.0.conv1")
    assert (vars(first)["in_planes"], vars(first)["out_planes"]) == (256, 512)
    assert vars(first)["stride"] == 2
    assert swapped(torch.randn(2, 3, 96, 128)).shape == (2, 1000)


@torch.no_grad()
@pytest.mark.parametrize("name", ["CoordinateAttention", "CBAM", "ECA", "SEBlock", "ConvGate"])
def test_gates_of_a_unet_of_segmentation_models(name: str, tmp_path: Path) -> None:
    smp = only_in("segmentation_models_pytorch")
    model = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse").eval()
    host = Host(tmp_path, model, ["segmentation_models_pytorch.*", "torchvision.*"])

    outcome = host.swap(
        f'  - {{match: "decoder.blocks.{{0,1,2,3}}.attention{{1,2}}", with: {name}}}\n',
        (1, 3, 64, 64),
    )

    assert len(outcome.sites) == 8
    assert host.load()(torch.randn(1, 3, 96, 64)).shape == (1, 1, 96, 64)


@torch.no_grad()
def test_windows_of_a_swin_of_timm(tmp_path: Path) -> None:
    timm = only_in("timm")
    model = timm.create_model("swin_tiny_patch4_window7_224").eval()
    host = Host(tmp_path, model, ["timm.*", "functools.partial"])

    outcome = host.swap(
        '  - {match: "layers.3.blocks.*.attn", with: BiLevelRoutingAttention}\n', (1, 3, 224, 224)
    )

    assert [str(site.calls[0]) for site in outcome.sites] == [
        "((1, 49, 768), mask=None) -> (1, 49, 768)"
    ] * 2
    assert host.load()(torch.randn(1, 3, 224, 224)).shape == (1, 1000)


@torch.no_grad()
def test_yolo_keeps_the_attributes_that_route_its_layers(tmp_path: Path) -> None:
    tasks = only_in("ultralytics.nn.tasks")
    model = tasks.DetectionModel("yolov8n.yaml", verbose=False).eval()
    host = Host(tmp_path, model, ["ultralytics.*"])

    outcome = host.swap(
        '  - {match: "model.{4,6,12}", class: C2f, with: BiLevelRoutingAttention, adapt: true}\n',
        (1, 3, 160, 160),
    )

    assert [len(site.calls) for site in outcome.sites] == [1, 1, 1]
    loaded = host.load()
    layer = loaded.get_submodule("model.12")
    assert (vars(layer)["i"], vars(layer)["f"]) == (12, -1)
    assert loaded(torch.randn(1, 3, 160, 192))[0].shape[:2] == (1, 84)


@torch.no_grad()
def test_yolo_checkpoint_in_half_with_its_average_only(tmp_path: Path) -> None:
    tasks = only_in("ultralytics.nn.tasks")
    ultralytics = only_in("ultralytics")
    average = tasks.DetectionModel("yolov8n.yaml", verbose=False).half()
    average.args = {"task": "detect", "model": "yolov8n.yaml"}
    payload = {"epoch": -1, "model": None, "ema": average, "train_args": {"task": "detect"}}
    host = Host(tmp_path, payload, ["ultralytics.*"])

    host.swap(
        '  - {match: "model.{4,6}", class: C2f, with: BiLevelRoutingAttention}\n', (1, 3, 160, 160)
    )

    # the owning library reads it and predicts
    yolo = ultralytics.YOLO(str(host.out))
    assert type(yolo.model.model[4]).__name__ == "BiLevelRoutingAttention"
    found = yolo.predict(torch.zeros(1, 3, 160, 160), imgsz=160, verbose=False)
    assert len(found) == 1


@torch.no_grad()
def test_segformer_of_transformers_gives_pairs_and_takes_sizes(tmp_path: Path) -> None:
    transformers = only_in("transformers")
    config = transformers.SegformerConfig(hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 1, 1])
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    host = Host(tmp_path, model, ["transformers.*"])

    outcome = host.swap(
        '  - {match: "**.blocks.*.attention", with: BiLevelRoutingAttention, adapt: true}\n',
        (1, 3, 128, 96),
    )

    assert len(outcome.sites) == 4
    assert host.load()(torch.randn(1, 3, 96, 128)).logits.shape == (1, 2, 24, 32)

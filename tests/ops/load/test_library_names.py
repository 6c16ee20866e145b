"""Folders whose names transformers converts when it reads them, written by the library itself.

Covers: stored.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import modswap
from modswap.cli.options import parse_shape
from modswap.core.asked.job import Job, Subject
from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Outcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.jobs.tree import read_tree
from modswap.ops.load.library_names import library_names, record_outputs
from tests.hosts import conftest as hosts  # noqa: F401 - declares what the library imports

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own

WORDS = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = "{shape: [2, 3, 64, 64]}"
IDS = "{kwargs: {input_ids: {shape: [1, 16], dtype: int64, fill: {integers: [0, 49]}}}}"
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
MASKED = "{match: %s, with: SelfAttention, args: {mask: true}}"
KEEP = "{match: '%s', with: 'torch.nn:Linear', args: {in_features: %d, out_features: %d}}"


class Case(NamedTuple):
    """A model of the library, and a module of it to replace."""

    config: str
    args: dict[str, Any]
    model: str
    inputs: str
    rule: str


def linear(match: str, fan_in: int = 32, fan_out: int = 32) -> str:
    return KEEP % (match, fan_in, fan_out)


VIT = Case(
    "ViTConfig",
    {**SMALL, "image_size": 64, "patch_size": 16},
    "ViTForImageClassification",
    IMAGE,
    "{match: 'vit.layers.*.mlp', with: MultiHeadSelfAttention}",
)
CASES = {
    "vit": VIT,
    "vit, one layer": VIT._replace(rule=linear("vit.layers.0.attention.q_proj")),
    "swin": Case(
        "SwinConfig",
        {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "image_size": 64,
         "window_size": 4},
        "SwinForImageClassification",
        IMAGE,
        "{match: '**.mlp', with: MultiHeadSelfAttention}",
    ),
    "segformer": Case(
        "SegformerConfig",
        {"hidden_sizes": [32, 64], "depths": [1, 1], "num_encoder_blocks": 2,
         "decoder_hidden_size": 16},
        "SegformerForSemanticSegmentation",
        IMAGE,
        linear("segformer.stages.0.blocks.0.attention.o_proj"),
    ),
    "bert": Case(
        "BertConfig", {**WORDS, "intermediate_size": 64}, "BertForMaskedLM", IDS,
        linear("bert.encoder.layer.0.output.dense", 64),
    ),
    "gpt2": Case(
        "GPT2Config",
        {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 50, "n_positions": 32},
        "GPT2LMHeadModel", IDS, MASKED % "transformer.h.0.mlp",
    ),
    "mixtral": Case(
        "MixtralConfig",
        {**WORDS, "intermediate_size": 64, "num_key_value_heads": 1, "num_local_experts": 4},
        "MixtralForCausalLM", IDS, linear("model.layers.0.self_attn.o_proj"),
    ),
    "mixtral, experts": Case(
        "MixtralConfig",
        {**WORDS, "intermediate_size": 64, "num_key_value_heads": 1, "num_local_experts": 4},
        "MixtralForCausalLM", IDS, MASKED % "model.layers.0.mlp",
    ),
}  # fmt: skip


def built(case: Case) -> Any:
    transformers = pytest.importorskip("transformers", reason="it is not installed (extra: hosts)")
    pytest.importorskip("transformers.conversion_mapping", reason="a version without the tables")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    return getattr(transformers, case.model)(getattr(transformers, case.config)(**case.args)).eval()


def job(case: Case, source: Path, out: Path) -> Job:
    skip = "verify: {skip: [sizes, limits, matrix]}\n"
    text = f"version: 1\ninputs: [{case.inputs}]\nreplace: [{case.rule}]\n{skip}"
    return Job(Subject(source), parse_recipe(text, "swap.yaml", "."), out)


def swapped(case: Case, source: Path, out: Path) -> Outcome:
    outcome = replace_file(job(case, source, out))
    assert outcome.error is None, outcome.error
    return outcome


def loaded(file: Path, factory: str | None = None) -> nn.Module:
    return modswap.load(file, factory, allow=["torch.nn.Linear"])


def differing(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {name for name in a if name not in b or not torch.equal(a[name], b[name])}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.ci) if name == "vit, one layer" else name
        for name in CASES
    ],
)
def test_folder_of_the_library_is_swapped_under_its_own_names(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = built(case)
    model.save_pretrained(tmp_path / "net")
    checked = check_file(job(case, tmp_path / "net", tmp_path / "out"))
    assert checked.error is None, checked.error

    outcome = swapped(case, tmp_path / "net", tmp_path / "out")

    before, after = (load_file(tmp_path / one / "model.safetensors") for one in ("net", "out"))
    changed = differing(before, after)
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    assert outcome.ledger.kept.tensors == len(before) - len(changed)
    again = loaded(tmp_path / "out").state_dict()
    sites = tuple(f"{site.path}." for site in outcome.sites)
    own = model.state_dict()
    assert differing(own, again) == {n for n in own if n.startswith(sites)} & differing(own, again)
    assert not differing({n: t for n, t in own.items() if not n.startswith(sites)}, again)
    back = type(model).from_pretrained(tmp_path / "out", ignore_mismatched_sizes=True).state_dict()
    assert not differing({n: t for n, t in own.items() if not n.startswith(sites)}, back)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize("name", ["vit", "mixtral", "gpt2"])
def test_another_format_gets_the_names_of_the_model(name: str, ending: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = built(case)
    model.save_pretrained(tmp_path / "net")

    outcome = swapped(case, tmp_path / "net", tmp_path / f"out{ending}")

    factory = tmp_path / "factory.py"
    args = f"transformers.{case.config}(**{case.args!r})"
    factory.write_text(
        f"import transformers\ndef build():\n    return transformers.{case.model}({args})\n"
    )
    again = loaded(tmp_path / f"out{ending}", f"{factory}:build").state_dict()
    sites = tuple(f"{site.path}." for site in outcome.sites)
    own = {n: t for n, t in model.state_dict().items() if not n.startswith(sites)}
    assert not differing(own, again)


@pytest.mark.slow
def test_weights_of_the_library_beside_a_factory_have_either_names(tmp_path: Path) -> None:
    model = built(VIT)
    model.save_pretrained(tmp_path / "net")
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    factory = tmp_path / "vit_factory.py"
    factory.write_text(
        "from transformers import ViTConfig, ViTForImageClassification\ndef build():\n"
        f"    return ViTForImageClassification(ViTConfig(**{VIT.args!r}))\n"
    )

    for file in (tmp_path / "net" / "model.safetensors", tmp_path / "own.safetensors"):
        assert not differing(model.state_dict(), loaded(file, f"{factory}:build").state_dict())


@pytest.mark.slow
def test_sharded_experts_are_made_of_all_files(tmp_path: Path) -> None:
    model = built(CASES["mixtral"])
    model.save_pretrained(tmp_path / "net", max_shard_size="20KB")
    assert len(list((tmp_path / "net").glob("*.safetensors"))) > 2

    swapped(CASES["mixtral, experts"], tmp_path / "net", tmp_path / "out")

    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert not any("layers.0.block_sparse_moe.experts" in name for name in index["weight_map"])
    again = loaded(tmp_path / "out").state_dict()
    own = {n: t for n, t in model.state_dict().items() if ".layers.0.mlp." not in n}
    assert not differing(own, again)


@pytest.mark.slow
def test_swap_of_a_part_of_a_fused_tensor_leaves_it(tmp_path: Path) -> None:
    args = {**SMALL, "image_size": 64, "patch_size": 16, "use_swiglu_ffn": True}
    rule = linear("**.layer.0.mlp.gate_proj", 32, 88)
    case = Case("Dinov2Config", args, "Dinov2Model", IMAGE, rule)
    model = built(case)
    wide = model.get_submodule("encoder.layer.0.mlp.gate_proj")
    case = case._replace(rule=linear("encoder.layer.0.mlp.gate_proj", 32, wide.out_features))
    model.save_pretrained(tmp_path / "net")

    swapped(case, tmp_path / "net", tmp_path / "out")

    before, after = (load_file(tmp_path / one / "model.safetensors") for one in ("net", "out"))
    assert not differing(before, after)
    own, again = model.state_dict(), loaded(tmp_path / "out").state_dict()
    assert differing(own, again) == {
        f"encoder.layer.0.mlp.gate_proj.{leaf}" for leaf in ("weight", "bias")
    }


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("name", ["vit", "gpt2"])
def test_tree_of_a_folder_has_modules_names_in_the_file_and_ties(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    built(case).save_pretrained(tmp_path / "net")
    shape = "1,3,64,64" if name == "vit" else "1,16:int64"

    read = read_tree(Subject(tmp_path / "net"))
    tree = read_tree(Subject(tmp_path / "net", inputs=(parse_shape(shape),)))

    assert f"config.json names {case.model}" in read.notes[-1]
    rows = {row.path: row for row in tree.rows}
    assert tree.traced
    if name == "vit":
        row = rows["vit.layers.1.attention.q_proj"]
        assert row.stored_as == ("vit.encoder.layer.1.attention.attention.query",)
        assert row.class_name.endswith("Linear")
        assert rows["classifier"].stored_as == ()
    else:
        assert rows["lm_head"].ties == (("weight", "transformer.wte.weight"),)


@pytest.mark.slow
@pytest.mark.ci
def test_experts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    built(CASES["mixtral"]).save_pretrained(tmp_path / "net")
    file = tmp_path / "net" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if ".experts.1." in name)
    save_file(weights | {name: torch.ones(3, 5)}, file)

    with pytest.raises(CheckpointError, match=r"the library cannot make 'model\.layers\.0"):
        modswap.load(tmp_path / "net")


def test_other_models_have_no_names_of_a_library() -> None:
    assert library_names(nn.Linear(2, 2)) is None


def test_classes_of_a_pickle_record_what_their_constructors_would_have_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Inner(nn.Module):
        _can_record_outputs = {"hidden_states": nn.Linear}  # noqa: RUF012 - as the library has it

    registry: dict[nn.Module, object] = {}
    library = SimpleNamespace(PreTrainedModel=Inner, _CAN_RECORD_REGISTRY=registry)
    monkeypatch.setitem(sys.modules, "transformers.modeling_utils", library)
    model = nn.Sequential(Inner(), nn.Linear(2, 2))

    record_outputs(model)

    assert registry == {model[0]: {"hidden_states": nn.Linear}}
    del library._CAN_RECORD_REGISTRY
    record_outputs(model)  # an older version
    monkeypatch.delitem(sys.modules, "transformers.modeling_utils")
    record_outputs(model)

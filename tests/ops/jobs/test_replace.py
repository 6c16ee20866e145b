"""The main job on real files: they are swapped, written, proved and loaded again."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import modswap
from modswap.cli.options import parse_shape
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.recipe import CallInput, Recipe, TensorInput
from modswap.core.errors import CheckpointError, InputError, ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.io.formats.torch.rewrite import RECIPE
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import check_file, replace_file
from tests.models import (
    Detector,
    GatedNet,
    ManyCalls,
    SharedNet,
    Strided,
    Tied,
    TokenNet,
    gate,
)
from tests.recipes import UNEXAMINED

ALLOW = ("tests.models.*",)
FACTORY = "tests.models:build_gated"
GATES = '"{space,channel}_attention"'


def recipe(
    match: str = GATES, shape: str = "[1, 3, 28, 28]", more: str = "", head: str = ""
) -> Recipe:
    verify = "" if "verify" in head else UNEXAMINED
    text = f"""\
version: 1
{verify}{head}
inputs: [{{shape: {shape}}}]
replace:
  - match: {match}
    with: BiLevelRoutingAttention
"""
    indented = "".join(f"    {line}\n" for line in more.splitlines())
    return parse_recipe(text + indented, "swap.yaml", ".")


MOODY = parse_recipe(
    "version: 1\ninputs: [{shape: [2, 3, 28, 28]}]\nverify: {modes: [eval, train]}\n"
    "replace: [{match: head, with: 'tests.models:Moody', args: {out_channels: 2}}]\n",
    "swap.yaml",
    ".",
)


def job(file: Path, rules: Recipe, out: Path | None = None, factory: str | None = None) -> Job:
    return Job(Subject(file, Policy(allow=ALLOW), factory), rules, out)


def run(file: Path, rules: Recipe, factory: str | None = None) -> tuple[Outcome, Path]:
    out = file.with_name(f"out{file.suffix}")
    return replace_file(job(file, rules, out, factory)), out


def recipe_inside(file: Path) -> Recipe:
    with zipfile.ZipFile(file) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(RECIPE))
        return parse_recipe(archive.read(name).decode(), "inside", ".")


def seeded(model: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return model().eval()


Writer = Callable[[nn.Module, Path], Any]
CONTAINERS: dict[str, tuple[str, Writer, str | None]] = {
    "whole module": ("net.pt", torch.save, None),
    "state dict": ("net.pth", lambda m, f: torch.save(m.state_dict(), f), FACTORY),
    "training": (
        "net.ckpt",
        lambda m, f: torch.save(
            {"epoch": 3, "model_state_dict": m.state_dict(), "loss": [0.5], "best": {"top": 1}}, f
        ),
        FACTORY,
    ),
    "training with module": ("net.pt", lambda m, f: torch.save({"model": m, "epoch": 1}, f), None),
    "safetensors": (
        "net.safetensors",
        lambda m, f: save_file(m.state_dict(), f, metadata={"author": "me"}),
        FACTORY,
    ),
    "DataParallel": ("net.pt", lambda m, f: torch.save(nn.DataParallel(m), f), None),
    "prefixed": (
        "net.pt",
        lambda m, f: torch.save({f"module.{n}": t for n, t in m.state_dict().items()}, f),
        FACTORY,
    ),
    "compiled": (
        "net.pt",
        lambda m, f: torch.save({f"_orig_mod.{n}": t for n, t in m.state_dict().items()}, f),
        FACTORY,
    ),
}


@pytest.mark.each_once
@pytest.mark.parametrize("share", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_swap_survives_every_container(kind: str, share: bool, tmp_path: Path) -> None:
    name, write, factory = CONTAINERS[kind]
    model = seeded(GatedNet)
    write(model, tmp_path / name)

    outcome, out = run(tmp_path / name, recipe(more=f"share: {str(share).lower()}"), factory)

    assert outcome.error is None
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    assert (outcome.ledger.kept.tensors, outcome.ledger.dropped.tensors) == (4, 14)
    assert outcome.ledger.fresh.tensors == 12
    loaded = modswap.load(out, factory, allow=ALLOW)
    loaded = loaded.module if isinstance(loaded, nn.DataParallel) else loaded
    assert isinstance(loaded, GatedNet)
    assert torch.equal(loaded.stem.weight, model.get_parameter("stem.weight"))
    assert type(loaded.space_attention).__name__ == "BiLevelRoutingAttention"
    one = next(loaded.space_attention.parameters())
    other = next(loaded.channel_attention.parameters())
    assert (one.data_ptr() == other.data_ptr()) is share
    assert torch.isfinite(loaded(torch.randn(2, 3, 28, 28))).all()


def test_training_checkpoint_keeps_everything_else(tmp_path: Path) -> None:
    model = seeded(GatedNet)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3, 28, 28)).sum().backward()
    optimizer.step()
    state = {"epoch": 7, "net": model.state_dict(), "optimizer": optimizer.state_dict(), "lr": 0.1}
    torch.save(state, tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe(), FACTORY)

    written = torch.load(out, weights_only=True)  # noqa: TID251 - another reader's view
    assert [*written] == ["epoch", "net", "optimizer", "lr", "modswap"]
    assert (written["epoch"], written["lr"]) == (7, 0.1)
    assert any("'optimizer' was remapped by name" in note for note in outcome.notes)


def test_average_of_the_model_is_swapped_as_well(tmp_path: Path) -> None:
    model, average = seeded(GatedNet), GatedNet().half()
    torch.save({"model": model.state_dict(), "ema": average.state_dict()}, tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe(), FACTORY)

    assert outcome.error is None
    written = torch.load(out, weights_only=True)  # noqa: TID251 - torch itself reads the file
    assert [*written["model"]] == [*written["ema"]]
    assert torch.equal(written["ema"]["stem.weight"], average.stem.weight)
    fresh = written["ema"]["space_attention.wo.weight"]
    assert fresh.dtype == torch.float16
    assert torch.equal(fresh, written["model"]["space_attention.wo.weight"].half())


def test_average_held_as_a_module_is_swapped_as_well(tmp_path: Path) -> None:
    torch.save({"model": None, "ema": seeded(GatedNet).half()}, tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe())

    assert outcome.error is None
    loaded = modswap.load(out, allow=ALLOW)
    assert {p.dtype for p in loaded.parameters()} == {torch.float16}


def test_recipe_and_receipt_travel_inside(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")

    _, out = run(tmp_path / "net.pt", recipe())

    with zipfile.ZipFile(out) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        text = archive.read(names["modswap/recipe.yaml"]).decode()
        receipt = json.loads(archive.read(names["modswap/receipt.json"]))
    assert parse_recipe(text, "inside", ".").replace[0].with_ == "BiLevelRoutingAttention"
    assert receipt["source"]["name"] == "net.pt"
    assert len(receipt["source"]["sha256"]) == 64
    assert [site["paths"] for site in receipt["sites"]] == [
        ["channel_attention"],
        ["space_attention"],
    ]


def test_safetensors_keep_their_metadata_and_stay_plain(tmp_path: Path) -> None:
    save_file(seeded(GatedNet).state_dict(), tmp_path / "a.safetensors", metadata={"by": "me"})

    _, out = run(tmp_path / "a.safetensors", recipe(), FACTORY)

    with safe_open(out, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["by"] == "me"
    assert {"modswap.recipe", "modswap.receipt"} <= metadata.keys()
    assert "space_attention.qkv.qkv.weight" in load_file(out)


def test_state_dict_stays_flat_for_other_programs(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet).state_dict(), tmp_path / "net.pt")

    _, out = run(tmp_path / "net.pt", recipe(), FACTORY)

    written = torch.load(out, weights_only=True)  # noqa: TID251 - torch itself reads the file
    assert all(isinstance(value, torch.Tensor) for value in written.values())
    assert "modswap" not in written
    fresh = modswap.apply_recipe(GatedNet(), recipe())
    fresh.load_state_dict(written)


@pytest.mark.slow
@pytest.mark.ci
def test_written_file_loads_in_a_fresh_process(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    _, out = run(tmp_path / "net.pt", recipe())
    program = (
        "import sys, torch, modswap\n"
        "model = modswap.load(sys.argv[1], allow=['tests.models.*'])\n"
        "print(torch.isfinite(model(torch.ones(1, 3, 28, 28))).all().item())\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(out)],
        capture_output=True, text=True, check=False, env=None,
    )  # fmt: skip

    assert done.stdout == "True\n", done.stderr


def test_same_job_writes_the_same_bytes(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    outs = [tmp_path / "one.pt", tmp_path / "two.pt"]

    digests = set()
    for out in outs:
        torch.rand(3)  # the random state outside does not matter
        written = replace_file(job(tmp_path / "net.pt", recipe(), out)).written
        assert written is not None
        digests.add(written.sha256)

    assert len(digests) == 1


def test_further_rule_does_not_change_what_another_draws(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    alone, both = tmp_path / "alone.pt", tmp_path / "both.pt"
    replace_file(job(tmp_path / "net.pt", recipe("space_attention"), alone))
    replace_file(job(tmp_path / "net.pt", recipe(), both))

    states = [modswap.load(out, allow=ALLOW).state_dict() for out in (alone, both)]

    name = "space_attention.wo.weight"
    assert torch.equal(states[0][name], states[1][name])


def test_second_swap_of_a_swapped_file_keeps_the_first(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet).state_dict(), tmp_path / "net.pt")
    once, twice = tmp_path / "once.pt", tmp_path / "twice.pt"
    replace_file(job(tmp_path / "net.pt", recipe("space_attention"), once, FACTORY))

    outcome = replace_file(job(once, recipe("channel_attention"), twice, FACTORY))

    assert outcome.error is None
    loaded = modswap.load(twice, FACTORY)
    kinds = {type(getattr(loaded, f"{name}_attention")).__name__ for name in ("space", "channel")}
    assert kinds == {"BiLevelRoutingAttention"}


def test_module_of_another_format_is_written_as_weights(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    out = tmp_path / "net.safetensors"

    outcome = replace_file(job(tmp_path / "net.pt", recipe(), out))

    assert outcome.error is None
    assert outcome.written is not None
    assert outcome.written.format == "safetensors"
    assert outcome.notes == ("safetensors hold weights without code: the model's class loads them",)
    assert isinstance(modswap.load(out, FACTORY), GatedNet)


def test_weights_go_over_from_safetensors_to_torch(tmp_path: Path) -> None:
    save_file(seeded(GatedNet).state_dict(), tmp_path / "net.safetensors")
    out = tmp_path / "net.pt"

    outcome = replace_file(job(tmp_path / "net.safetensors", recipe(), out, FACTORY))

    assert outcome.error is None
    assert isinstance(modswap.load(out, FACTORY), GatedNet)


def test_shared_module_gets_one_new_module_under_all_its_paths(tmp_path: Path) -> None:
    torch.save(seeded(SharedNet), tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe("second", "[1, 8, 14, 14]"))

    assert outcome.error is None
    (site,) = outcome.sites
    assert (site.path, site.aliases) == ("first", ("second",))
    assert len(site.calls) == 2
    loaded = modswap.load(out, allow=ALLOW)
    assert loaded.get_submodule("first") is loaded.get_submodule("second")


def test_tie_survives_the_swap(tmp_path: Path) -> None:
    torch.save(seeded(Tied), tmp_path / "net.pt")
    rules = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 9], dtype: int64}]\n"
        "replace: [{match: mixer, with: 'tests.models:ChannelsLastMixer', layout: NLC}]\n",
        "swap.yaml",
        ".",
    )

    outcome, out = run(tmp_path / "net.pt", rules)

    assert outcome.error is None
    loaded = modswap.load(out, allow=ALLOW)
    assert isinstance(loaded, Tied)
    assert loaded.head.weight is loaded.embed.weight


def test_tie_survives_safetensors(tmp_path: Path) -> None:
    model = seeded(Tied)
    modswap.save(model, tmp_path / "net.safetensors")
    rules = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 9], dtype: int64}]\n"
        "replace: [{match: mixer, with: 'tests.models:ChannelsLastMixer', layout: NLC}]\n",
        "swap.yaml",
        ".",
    )

    outcome, out = run(tmp_path / "net.safetensors", rules, "tests.models:Tied")

    assert outcome.error is None
    loaded = modswap.load(out, "tests.models:Tied", allow=ALLOW)
    assert isinstance(loaded, Tied)
    assert loaded.head.weight is loaded.embed.weight
    assert len(load_file(out)) == len(model.state_dict()) - 1


def test_host_attributes_and_flags_are_carried_over(tmp_path: Path) -> None:
    model = Detector()
    model.requires_grad_(requires_grad=False)
    model.get_submodule("block").train()
    torch.save(model.to(torch.float64), tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe("block", "[1, 3, 28, 28]\n, dtype: float64"))

    assert outcome.error is None
    block = modswap.load(out, allow=ALLOW).get_submodule("block")
    assert (vars(block)["i"], vars(block)["f"], vars(block)["type"]) == (1, -1, "Sequential")
    assert block.training
    assert {(p.dtype, p.requires_grad) for p in block.parameters()} == {(torch.float64, False)}


def test_memory_format_is_carried_over(tmp_path: Path) -> None:
    rules = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 16, 8, 8]}]\n"
        "replace: [{match: '0', with: 'torch.nn:Conv2d', args: {kernel_size: 3, padding: 1}}]\n",
        "swap.yaml",
        ".",
    )
    gate_file = tmp_path / "gate.pt"
    torch.save(gate(16).to(memory_format=torch.channels_last), gate_file)  # type: ignore[call-overload] # missing in the stubs

    outcome, out = run(gate_file, rules)

    assert outcome.error is None
    weight = modswap.load(out).get_submodule("0").get_parameter("weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_tokens_are_laid_out_and_back(tmp_path: Path) -> None:
    torch.save(seeded(TokenNet), tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe("blocks.*.attn", "[1, 3, 16, 16]"))

    assert outcome.error is None
    assert {site.layout for site in outcome.sites} == {"NLC"}
    assert modswap.load(out, allow=ALLOW)(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_class_of_a_file_in_another_folder_is_put_into_a_whole_module(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "my_block.py").write_text(
        "from torch import nn\n\n\nclass Inner(nn.Identity):\n    pass\n\n\n"
        "class Block(nn.Sequential):\n    def __init__(self):\n        super().__init__(Inner())\n"
    )
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    rules = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 3, 28, 28]}]\n"
        "replace: [{match: space_attention, with: 'sub/my_block.py:Block'}]\n",
        "swap.yaml",
        str(tmp_path),
    )

    outcome, _ = run(tmp_path / "net.pt", rules)

    assert outcome.error is None
    assert outcome.written is not None


def test_class_token_is_refused_and_named(tmp_path: Path) -> None:
    torch.save(TokenNet(class_token=True), tmp_path / "net.pt")

    with pytest.raises(ShapeError, match=r"blocks\.0\.attn: .*17 tokens.*class"):
        run(tmp_path / "net.pt", recipe("blocks.*.attn", "[1, 3, 16, 16]"))


def test_site_with_a_stride_is_refused_without_adapt(tmp_path: Path) -> None:
    torch.save(seeded(Strided), tmp_path / "net.pt")

    with pytest.raises(ShapeError, match=r"\(1, 8, 14, 14\).*\(1, 16, 7, 7\).*adapt: true"):
        run(tmp_path / "net.pt", recipe("down", "[1, 8, 14, 14]"))


def test_site_with_a_stride_is_adapted_if_the_rule_says_so(tmp_path: Path) -> None:
    torch.save(seeded(Strided), tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", recipe("down", "[1, 8, 14, 14]", "adapt: true"))

    assert outcome.error is None
    assert modswap.load(out, allow=ALLOW)(torch.randn(1, 8, 14, 14)).shape == (1, 4, 7, 7)


def test_module_that_is_never_called_is_refused(tmp_path: Path) -> None:
    torch.save(seeded(ManyCalls), tmp_path / "net.pt")

    with pytest.raises(ShapeError, match=r"^unused: the dummy forward never calls it"):
        run(tmp_path / "net.pt", recipe("unused", "[1, 4, 8, 8]"))


def test_failed_verification_writes_nothing_and_names_the_first_module(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")

    outcome, out = run(tmp_path / "net.pt", MOODY)

    assert isinstance(outcome.error, ShapeError)
    assert outcome.error.where == "head"
    assert outcome.error.what == "output was (2, 2, 14, 14), is now (2, 2, 7, 7)"
    assert outcome.exit_code == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pt"]
    assert not out.exists()


def test_model_in_memory_is_as_it_was_after_a_failure() -> None:
    model = seeded(GatedNet)
    before = dict(model.named_modules())

    with pytest.raises(ShapeError, match=r"^head: output was"):
        modswap.replace(model, MOODY)

    assert dict(model.named_modules()) == before


def test_model_in_memory_is_swapped_in_place_with_a_ledger() -> None:
    model = seeded(GatedNet)

    outcome = modswap.replace(model, recipe())

    assert outcome.plan is not None
    assert outcome.plan.paths == ("channel_attention", "space_attention")
    assert outcome.verdict is not None
    assert outcome.verdict.finite is True
    assert outcome.ledger is not None
    assert (outcome.ledger.kept.tensors, outcome.ledger.fresh.tensors) == (4, 12)
    assert type(model.get_submodule("space_attention")).__name__ == "BiLevelRoutingAttention"


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_model_saved_from_memory_comes_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path without a folder, the usual case
    model = seeded(GatedNet)
    modswap.replace(model, recipe())

    written = modswap.save(model, name, recipe=recipe())

    assert written.nbytes == Path(name).stat().st_size
    loaded = modswap.load(name, FACTORY, allow=ALLOW)
    x = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(loaded.eval()(x), model(x), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["BiLevelRoutingAttention", "SelfAttention", "CBAM"])
def test_what_was_swapped_in_is_swapped_again(first: str, tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    text = "version: 1\ninputs: [{shape: [1, 3, 28, 28]}]\nreplace: [{match: %s, with: %s}]\n"
    once = parse_recipe(text % (GATES, first), "swap.yaml", ".")
    assert replace_file(job(tmp_path / "net.pt", once, tmp_path / "once.pt")).error is None

    again = parse_recipe(text % (GATES, "ACmix"), "swap.yaml", ".")
    outcome = replace_file(job(tmp_path / "once.pt", again, tmp_path / "twice.pt"))

    assert outcome.error is None
    loaded = modswap.load(tmp_path / "twice.pt", allow=ALLOW)
    assert type(loaded.get_submodule("space_attention")).__name__ == "ACmix"


def test_model_is_not_saved_over_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    modswap.save(nn.Linear(2, 2), "net.pt")

    with pytest.raises(CheckpointError, match="it exists"):
        modswap.save(nn.Linear(3, 3), "net.pt")
    with pytest.raises(CheckpointError, match=r"it is a folder; name a file$"):
        modswap.save(nn.Linear(3, 3), ".")

    assert modswap.load("net.pt").weight.shape == (2, 2)
    modswap.save(nn.Linear(3, 3), "net.pt", force=True)
    assert modswap.load("net.pt").weight.shape == (3, 3)


@pytest.mark.slow
def test_every_size_mode_and_dtype_is_run(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    verify = "verify: {sizes: [[30, 22]], modes: [eval, train], dtypes: [float32, bfloat16]}"

    outcome = check_file(job(tmp_path / "net.pt", recipe(head=verify, shape="[2, 3, 28, 28]")))

    assert outcome.error is None
    assert outcome.verdict is not None
    assert [str(case.key) for case in outcome.verdict.cases] == [
        f"(2, 3, {size}) {mode} {dtype}"
        for mode in ("eval", "train")
        for dtype in ("float32", "bfloat16")
        for size in ("28, 28", "30, 22")
    ]


def test_check_says_what_replace_says_and_reads_no_weight(tmp_path: Path) -> None:
    model = seeded(GatedNet)
    nn.init.constant_(model.get_parameter("head.weight"), float("nan"))  # would show if read
    torch.save(model, tmp_path / "net.pt")
    rules = recipe()

    checked = check_file(job(tmp_path / "net.pt", rules))
    replaced, _ = run(tmp_path / "net.pt", rules)

    assert checked.ok
    assert checked.verdict is not None
    assert checked.verdict.finite is None
    assert checked.sites == replaced.sites
    assert checked.written is None
    assert checked.ledger is not None
    assert replaced.ledger is not None
    assert (checked.ledger.kept, checked.ledger.fresh) == (
        replaced.ledger.kept,
        replaced.ledger.fresh,
    )


class ValueBound(nn.Module):
    """Its shapes depend on values, so that fake tensors do not suffice."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = gate(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = 1 + int((x > 100).sum().item())
        out: torch.Tensor = self.mix(x).repeat(count, 1, 1, 1)
        return out


def test_check_reads_weights_where_shapes_depend_on_values_and_says_so(tmp_path: Path) -> None:
    from modswap.ops.swap import prepare

    prepared = prepare(ValueBound(), recipe("mix", "[1, 4, 14, 14]"), unreal=True)

    assert prepared.notes == ("the weights were read: the model's shapes depend on values",)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ("[1, 4, 28, 28]", InputError, r"refuses the dummy input \(1, 4, 28, 28\).* in 'stem'"),
        ("[28]", InputError, r"refuses the dummy input \(28\)"),
    ],
)
def test_input_that_the_model_refuses_is_reported(
    shape: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")

    with pytest.raises(error, match=message):
        check_file(job(tmp_path / "net.pt", recipe(shape=shape)))


def test_recipe_without_inputs_gets_one_that_is_reported_and_written(tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    rules = recipe().model_copy(update={"inputs": ()})

    outcome = replace_file(job(tmp_path / "net.pt", rules, out=tmp_path / "out.pt"))

    note = "no input was given: took (1, 3, 224, 224), a usual one, with the sizes of the first "
    assert any(one.startswith(note) for one in outcome.notes)
    assert recipe_inside(tmp_path / "out.pt").inputs == (TensorInput(shape=(1, 3, 224, 224)),)


@pytest.mark.parametrize("name", ["net.pt", "link.pt"])
def test_input_is_never_overwritten(name: str, tmp_path: Path) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    (tmp_path / "link.pt").hardlink_to(tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()
    wanted = Job(
        Subject(tmp_path / "net.pt", Policy(allow=ALLOW)), recipe(), tmp_path / name, force=True
    )

    with pytest.raises(CheckpointError, match="it is the input itself"):
        replace_file(wanted)

    assert (tmp_path / "net.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "proof"), [("a.pt", "rewrite.data_ledger"), ("a.safetensors", "writer.tensor_ledger")]
)
def test_file_that_fails_its_proof_is_never_put_in_place(
    name: str, proof: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(seeded(GatedNet), tmp_path / "net.pt")
    (tmp_path / name).write_bytes(b"old")

    def fails(*args: Any, **more: Any) -> Any:
        raise CheckpointError("a tensor outside the swap did not survive", "x", "report this")

    monkeypatch.setattr(f"modswap.ops.write.{proof}", fails)
    asked = Job(
        Subject(tmp_path / "net.pt", Policy(allow=ALLOW)), recipe(), tmp_path / name, force=True
    )

    assert isinstance(replace_file(asked).error, CheckpointError)

    assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["net.pt", name])


class Pair(nn.Module):
    """A gate on a map to which a number for each sample is added."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(16, 16, 1)

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = self.gate(x + step[:, None, None, None])
        return gated


def test_several_inputs_of_the_command_are_one_call(tmp_path: Path) -> None:
    torch.save(Pair(), tmp_path / "net.pt")
    policy = Policy((f"{__name__}.*",))
    inputs = (parse_shape("2,16,8,8"), parse_shape("2:int64"))
    subject = Subject(tmp_path / "net.pt", policy, inputs=inputs)
    recipe = parse_recipe("version: 1\nreplace: [{match: gate, with: ECA}]\n", "r.yaml", ".")

    outcome = replace_file(Job(subject, recipe, tmp_path / "out.pt"))

    assert outcome.error is None
    assert outcome.verdict is not None
    assert len(outcome.verdict.cases) == 1
    call = CallInput(args=({"shape": [2, 16, 8, 8]}, {"shape": [2], "dtype": "int64"}))
    assert recipe_inside(tmp_path / "out.pt").inputs == (call,)

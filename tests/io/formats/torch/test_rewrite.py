"""Files changed as data: odd containers, odd tensors, damage.

Covers: outline.
"""

import json
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.core.kept.outcome import Outcome
from modswap.io.formats.container import Container
from modswap.io.formats.format import Swap, Swaps
from modswap.io.formats.outline import survey
from modswap.io.formats.reading import read as read_file
from modswap.io.formats.writing import prepare_rewriting
from modswap.io.pickled.optimizers import Parameters
from modswap.io.recipe.reader import parse_recipe
from modswap.io.rewriting import Records
from modswap.nn.inserted_site import put_in
from modswap.ops.jobs.replace import replace_file
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from tests.models import GatedNet

FACTORY = "tests.models:build_gated"
RULE = "{match: space_attention, with: SEBlock, layout: NCHW, args: {channel: 16}}"


def job(file: Path, rule: str = RULE, *, trust: bool = False, out: str = "", more: str = "") -> Job:
    text = f"version: 1\ninputs: [{{shape: [1, 3, 28, 28]}}]\nreplace: [{rule}]\n{more}"
    recipe = parse_recipe(text, "swap.yaml", ".")
    policy = Policy(allow=("tests.models.*",), trust=trust)
    target = file.with_name(out or f"out-{file.name}")
    return Job(Subject(file, policy, FACTORY), recipe, target)


def swap(file: Path, rule: str = RULE, *, trust: bool = False, out: str = "") -> Outcome:
    outcome = replace_file(job(file, rule, trust=trust, out=out))
    assert outcome.error is None, outcome.error
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    return outcome


def read(file: Path) -> Any:
    return torch.load(file, weights_only=False)  # noqa: TID251 - as other readers do


def stepped(model: nn.Module, parameters: list[nn.Parameter]) -> dict[str, Any]:
    optimizer = torch.optim.Adam(parameters)
    model(torch.randn(2, 3, 28, 28)).square().mean().backward()
    optimizer.step()
    return optimizer.state_dict()


def test_ordered_dictionaries_keep_their_order(tmp_path: Path) -> None:
    model = GatedNet()
    held = list(model.parameters())
    state = OrderedDict(stepped(model, held))
    odd = OrderedDict(stepped(model, held[:3]))
    payload = OrderedDict(epoch=1, model=model.state_dict(), good=state, odd=odd, last="x")
    torch.save(payload, tmp_path / "net.pt")

    swap(tmp_path / "net.pt")

    written = read(tmp_path / "out-net.pt")
    assert type(written) is OrderedDict
    assert [*written] == ["epoch", "model", "good", "last", "modswap"]
    assert [*written["good"]] == [*state]


def test_modules_that_torch_kept_in_ordered_dictionaries_are_swapped(tmp_path: Path) -> None:
    model = GatedNet()
    vars(model)["_modules"] = OrderedDict(model._modules)
    torch.save(model, tmp_path / "net.pt")

    swap(tmp_path / "net.pt")

    written = read(tmp_path / "out-net.pt")
    assert [*written._modules] == [*model._modules]
    assert type(written.space_attention).__name__ == "SEBlock"


class Dotted(nn.Module):
    """A module under a name with a dot in it: (N, 16, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(16, 16, 1))
        self._modules["a.b"] = nn.Sequential(OrderedDict(gate=nn.Conv2d(16, 16, 1)))


def test_names_with_dots_are_found(tmp_path: Path) -> None:
    torch.save(Dotted(), tmp_path / "net.pt")

    outcome = replace_unbuilt(
        job(tmp_path / "net.pt", "{match: 'a.b.gate', with: SEBlock}", trust=True)
    )

    assert outcome.error is None
    written = zipfile.ZipFile(tmp_path / "out-net.pt").read("net/data.pkl")
    assert b"SEBlock" in written


def test_new_weights_come_beside_their_neighbours(tmp_path: Path) -> None:
    class Plain(GatedNet):
        def __init__(self) -> None:
            super().__init__()
            self.space_attention = nn.Identity()  # type: ignore[assignment] # which has no weights

    (tmp_path / "plain.py").write_text(
        "from torch import nn\nfrom tests.models import GatedNet\n"
        "def build():\n    net = GatedNet()\n    net.space_attention = nn.Identity()\n"
        "    return net\n"
        "def inside():\n    net = nn.Sequential(GatedNet())\n"
        "    net[0].space_attention = nn.Identity()\n    return net\n"
    )
    for name, weights, match in (
        ("build", Plain().state_dict(), "space_attention"),
        ("inside", nn.Sequential(Plain()).state_dict(), "0.space_attention"),
    ):
        file = tmp_path / f"{name}.pt"
        torch.save({**weights}, file)
        work = job(file, f"{{match: {match}, with: SEBlock}}")
        subject = Subject(file, work.subject.policy, f"{tmp_path}/plain.py:{name}")

        outcome = replace_file(Job(subject, work.recipe, work.out))

        assert outcome.error is None
        names = [*read(tmp_path / f"out-{name}.pt")]
        assert sum("space_attention" in n for n in names) == 2
        assert {n for n in names if "space" not in n} == set(weights)


class Labelled(nn.Module):
    """Parameters with attributes, and tensors of kinds that are rare."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(16, 16, 1)
        self.kept = nn.Parameter(torch.ones(2))
        self.kept.label = {"deep": [[[[[[[[[["far"]]]]]]]]]], "nan": float("nan")}  # type: ignore[attr-defined] # set at run time
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("part", torch.arange(10)[2:4])


def test_odd_tensors_are_kept(tmp_path: Path) -> None:
    torch.save(Labelled(), tmp_path / "net.pt")

    outcome = replace_unbuilt(job(tmp_path / "net.pt", "{match: gate, with: SEBlock}", trust=True))

    assert outcome.error is None
    assert outcome.ledger is not None
    assert outcome.ledger.kept.tensors == 4
    written = read(tmp_path / "out-net.pt")
    assert written.kept.label["deep"] == Labelled().kept.label["deep"]  # type: ignore[attr-defined] # set at run time
    assert torch.equal(written.sparse.to_dense(), torch.eye(3))
    assert torch.equal(written.part, torch.arange(10)[2:4])
    assert not hasattr(written.gate, "_hooks")


def test_quantized_parameters_have_no_known_shape_and_do_no_harm(tmp_path: Path) -> None:
    payload = {"model": GatedNet(), "other": nn.ReLU(), "model_ema": GatedNet().state_dict()}
    torch.save(payload, tmp_path / "net.pt")

    found = survey(tmp_path / "net.pt")

    assert [place.keys for place in found.places] == [("model",)]


def test_averages_under_their_own_names_are_swapped_unbuilt(tmp_path: Path) -> None:
    weights = GatedNet().state_dict()
    average = {"n_averaged": torch.tensor(3), **{f"module.{n}": t for n, t in weights.items()}}
    torch.save({"state_dict": weights, "ema": average}, tmp_path / "net.pt")

    outcome = replace_unbuilt(job(tmp_path / "net.pt"))

    assert outcome.error is None
    written = read(tmp_path / "out-net.pt")
    assert "module.space_attention.fc.0.weight" in written["ema"] or any(
        name.startswith("module.space_attention.") for name in written["ema"]
    )
    assert written["ema"]["n_averaged"] == 3


def test_pickle_of_a_newer_protocol_is_written_by_torch_if_trusted(tmp_path: Path) -> None:
    weights = GatedNet().state_dict()
    average = {"n_averaged": torch.tensor(3), **{f"module.{n}": t for n, t in weights.items()}}
    payload = {"model": GatedNet(), "state": {"param_groups": [], "state": {}}}
    torch.save(payload, tmp_path / "net.pt", pickle_protocol=4)
    torch.save({"model": weights, "ema": average}, tmp_path / "ema.pt", pickle_protocol=4)

    first = swap(tmp_path / "net.pt", trust=True)
    swap(tmp_path / "ema.pt", trust=True)

    assert any("'state' was kept as it is" in note for note in first.notes)
    assert type(read(tmp_path / "out-net.pt")["model"].space_attention).__name__ == "SEBlock"
    written = read(tmp_path / "out-ema.pt")["ema"]
    assert written["n_averaged"] == 3
    assert any(name.startswith("module.space_attention.") for name in written)


def test_dry_run_of_what_torch_would_write(tmp_path: Path) -> None:
    torch.save({"model": GatedNet()}, tmp_path / "net.pt", pickle_protocol=4)
    work = job(tmp_path / "net.pt", trust=True)

    outcome = replace_file(Job(work.subject, work.recipe, None))

    assert outcome.ledger is not None
    assert outcome.ledger.fresh.tensors == 2


def test_old_file_goes_over_to_safetensors(tmp_path: Path) -> None:
    weights = GatedNet().state_dict()
    torch.save(weights, tmp_path / "net.pt", _use_new_zipfile_serialization=False)

    swap(tmp_path / "net.pt", out="out.safetensors")

    loaded = modswap.load(tmp_path / "out.safetensors", FACTORY)
    assert torch.equal(loaded.get_parameter("head.weight"), weights["head.weight"])


def repacked(source: Path, out: Path, change: dict[str, bytes | None]) -> None:
    """Copy a zip with other contents in some of its records; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = change.get(name.partition("/")[2], old.read(name))
            if data is not None:
                new.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"data/0": None}, "a tensor's record '0' is missing"),
        ({"data/0": b"short"}, r"its record 'net/data/0' has 5 bytes, expected"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    change: dict[str, bytes | None], what: str, tmp_path: Path
) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")
    repacked(tmp_path / "net.pt", tmp_path / "bad.pt", change)

    outcome = replace_unbuilt(job(tmp_path / "bad.pt"))

    assert isinstance(outcome.error, CheckpointError)
    with pytest.raises(CheckpointError, match=what):
        raise outcome.error
    assert not (tmp_path / "out-bad.pt").exists()


def test_ties_of_safetensors_survive_the_loss_of_the_name_they_were_stored_under(
    tmp_path: Path,
) -> None:
    weights = dict(GatedNet().state_dict())
    shared = weights["space_attention.0.weight"]
    ties = {"other.weight": "space_attention.0.weight", "third.weight": "space_attention.0.weight"}
    numbers = {"codes": torch.arange(5, dtype=torch.uint8), "wide": torch.ones(3).double()}
    save_file({**weights, **numbers}, tmp_path / "net.safetensors", metadata=ties)

    outcome = replace_unbuilt(job(tmp_path / "net.safetensors"))

    assert outcome.error is None
    with safe_open(tmp_path / "out-net.safetensors", "pt") as opened:
        assert opened.metadata()["third.weight"] == "other.weight"
        assert torch.equal(opened.get_tensor("other.weight"), shared)
        assert torch.equal(opened.get_tensor("codes"), numbers["codes"])
    content = (tmp_path / "out-net.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + length])
    sizes = {"F64": 8, "F32": 4, "I64": 8, "U8": 1}
    starts = [(sizes[e["dtype"]], e["data_offsets"][0]) for n, e in entries.items() if n[0] != "_"]
    assert all(start % size == 0 for size, start in starts)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_tensors_that_safetensors_has_no_name_for_are_reported(tmp_path: Path) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("x", torch.zeros(2, dtype=torch.complex32))

    with pytest.raises(CheckpointError, match="safetensors cannot hold 'x'"):
        modswap.save(Half(), tmp_path / "net.safetensors")


def test_rare_dtypes_are_written_by_their_names(tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("x", torch.ones(2).to(torch.float8_e4m3fn))
            self.register_buffer("y", torch.ones(2, dtype=torch.complex64))

    modswap.save(Small(), tmp_path / "net.safetensors")

    with safe_open(tmp_path / "net.safetensors", "pt") as opened:
        assert opened.get_tensor("x").dtype is torch.float8_e4m3fn
        assert torch.equal(opened.get_tensor("y"), torch.ones(2, dtype=torch.complex64))


def test_module_that_no_pickle_can_hold_is_reported(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")
    rule = "{match: space_attention, with: 'tests.models:Unpicklable'}"

    # the examination of copies finds it before
    outcome = replace_file(job(tmp_path / "net.pt", rule, more="verify: {skip: [copies]}\n"))

    assert isinstance(outcome.error, CheckpointError)
    assert "torch cannot write it" in outcome.error.what


def test_optimizer_that_has_not_stepped_yet_is_renumbered(tmp_path: Path) -> None:
    model = GatedNet()
    state = torch.optim.Adam(model.parameters()).state_dict()
    torch.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "net.pt")

    swap(tmp_path / "net.pt")

    swapped = modswap.load(tmp_path / "out-net.pt", FACTORY)
    torch.optim.Adam(swapped.parameters()).load_state_dict(
        read(tmp_path / "out-net.pt")["optimizer"]
    )


def test_shared_storages_are_written_once(tmp_path: Path) -> None:
    weights = GatedNet().state_dict()
    weights["head.bias"] = weights["stem.bias"][:2]
    extra = {"old": {"a": weights["head.weight"], "sparse": torch.eye(2).to_sparse()}}
    torch.save({"model": weights, **extra}, tmp_path / "net.pt")
    torch.save({"model": weights, **extra}, tmp_path / "old.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip

    for name in ("net", "old"):
        swap(tmp_path / f"{name}.pt")

        written = read(tmp_path / f"out-{name}.pt")
        pointers = [t.data_ptr() for t in (written["model"]["head.weight"], written["old"]["a"])]
        assert pointers[0] == pointers[1]


def test_deep_boxes_are_kept_unopened(tmp_path: Path) -> None:
    deep: Any = torch.ones(1)
    for _ in range(60):
        deep = [deep]
    weights = OrderedDict(GatedNet().state_dict())
    vars(weights)["mine"] = "kept"
    torch.save({"model": weights, "deep": deep}, tmp_path / "net.pt")

    swap(tmp_path / "net.pt")

    written = read(tmp_path / "out-net.pt")
    assert written["model"].mine == "kept"
    for _ in range(60):
        (deep,), (written["deep"],) = deep, written["deep"]
    assert torch.equal(written["deep"], deep)


NO_PARAMETERS = Parameters((), (), ())


def test_module_that_was_put_in_is_taken_out_of_a_file(tmp_path: Path) -> None:
    old = nn.Linear(2, 2)
    model = nn.Sequential(OrderedDict(gate=old, head=nn.Linear(2, 2)))
    put_in(old, "more", nn.Identity())
    torch.save(model, tmp_path / "net.pt")
    container = read_file(tmp_path / "net.pt", Policy())
    swaps = Swaps((Swap(container.slots[0], (), taken=("gate.more",)),), NO_PARAMETERS)

    prepared = prepare_rewriting(container, swaps, None, Policy())
    assert prepared is not None
    prepared.write(tmp_path / "out.pt", Records(), checksums=False)

    gate = read(tmp_path / "out.pt").gate
    assert type(gate) is nn.Linear
    assert not gate._modules
    assert torch.equal(gate.weight, old.weight)


def test_file_that_names_what_runs_code_is_written_again_with_trust_alone(tmp_path: Path) -> None:
    torch.save({"weights": {"a": torch.ones(2)}, "loss": eval}, tmp_path / "net.pt")
    container = Container("torch", tmp_path / "net.pt", {}, ())
    swaps = Swaps((), NO_PARAMETERS)

    with pytest.raises(UnsafeError, match=r"it names what can run any code: \w+\.eval") as caught:
        prepare_rewriting(container, swaps, None, Policy())

    assert caught.value.where == str(tmp_path / "net.pt")
    assert caught.value.fix.endswith("for a file of your own making: --trust")
    assert prepare_rewriting(container, swaps, None, Policy(trust=True)) is not None

"""Files in which modules were put in beside others, and their structure from before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import load_file, save_file
from torch import nn

from modswap.cli.app import run
from tests.models import GatedNet, build_gated
from tests.ops.jobs.test_insert import ALLOW, FACTORY, RECIPE, X, loaded, saved, trained

KINDS = ["whole", "averaged", "weights", "training", "legacy", "safetensors"]
UNEXAMINED = "".join(RECIPE.splitlines(keepends=True)[:3])
HEAD = """\
replace:
  - {match: head, with: "torch.nn:Conv2d",
     args: {in_channels: 16, out_channels: 2, kernel_size: 1}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swap.yaml").write_text(RECIPE)


@pytest.fixture
def net() -> GatedNet:
    torch.manual_seed(0)
    return build_gated().eval()


def inserted(kind: str, net: GatedNet) -> tuple[str, str, tuple[str, ...]]:
    """Save a model and put modules in; return both files and what they need to be loaded."""
    file, needs = saved(kind, net)
    out = f"out{Path(file).suffix}"
    assert run(["replace", file, "-c", "swap.yaml", "-o", out, *needs, "-q"]) == 0
    return file, out, needs


def swapped(file: str, rules: str, out: str, needs: tuple[str, ...]) -> None:
    Path("rules.yaml").write_text(UNEXAMINED + rules)
    assert run(["replace", file, "-c", "rules.yaml", "-o", out, *needs, "-q"]) == 0


def held(file: str) -> Any:
    if file.endswith(".safetensors"):
        return load_file(file)
    return torch.load(file, weights_only=False)  # noqa: TID251 - as a training script does


def everything(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all parts of a file: values, classes and names of attributes, in their order."""
    if isinstance(value, nn.Module):
        for path, module in value.named_modules():
            yield f"{name}{path}", (type(module), list(vars(module)))
        value = value.state_dict()
    if isinstance(value, dict):
        yield f"{name}*", (type(value), list(value), list(getattr(value, "_metadata", ())))
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    if isinstance(parts, dict):
        for key, item in parts.items():
            yield from everything(item, f"{name}{key}.")
    elif torch.is_tensor(value):
        yield name, (value.dtype, value.shape, value.contiguous().view(-1).tolist())
    else:
        yield name, value


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reverted_file_is_the_file_from_before(
    kind: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out, needs = inserted(kind, net)
    back = f"back{Path(file).suffix}"
    capsys.readouterr()

    assert run(["revert", out, "-o", back, "--format", "json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert list(everything(held(back))) == list(everything(held(file)))
    assert torch.equal(loaded(back, needs).eval()(X), net(X))
    ledger = report["ledger"]
    assert ledger["proved"]
    assert ledger["fresh"]["tensors"] == 0
    assert all(".cbam." in n or ".side." in n for n in ledger["dropped"]["names"])
    assert {site["path"] for site in report["sites"]} == {
        *("stem.side", "channel_attention.cbam", "space_attention.cbam")
    }
    assert run(["revert", back, "-o", "again.pt"]) == 2
    assert "no module of a swap is recorded in it" in capsys.readouterr().err
    if kind == "safetensors":
        assert Path(back).read_bytes() == Path(file).read_bytes()


def test_an_optimizer_that_trained_the_new_modules_too_keeps_the_state_of_the_old(
    net: GatedNet,
) -> None:
    file, out, needs = inserted("training", net)
    model = loaded(out, needs)
    optimizer = torch.optim.AdamW(model.parameters())
    payload = held(out)
    optimizer.load_state_dict(payload["optimizer"])
    model(X).sum().backward()
    optimizer.step()
    payload |= {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(payload, "trained.pt")
    names = [name for name, _ in model.named_parameters()]

    assert run(["revert", "trained.pt", "-o", "back.pt", "-q"]) == 0

    before, after = payload["optimizer"], held("back.pt")["optimizer"]
    kept = [n for n, name in enumerate(names) if ".cbam." not in name and ".side." not in name]
    assert after["param_groups"][0]["params"] == list(range(len(kept)))
    for new, old in enumerate(kept):
        assert torch.equal(after["state"][new]["exp_avg"], before["state"][old]["exp_avg"])
    assert held("back.pt").keys() == held(file).keys()


def test_a_module_saved_by_a_training_script_needs_no_receipt(net: GatedNet) -> None:
    _, out, needs = inserted("whole", net)
    model = loaded(out, needs)
    trained(model)
    torch.save({"epoch": 1, "model": model}, "trained.pt")

    assert run(["revert", "trained.pt", "-o", "back.pt", "-q"]) == 0

    back = held("back.pt")["model"]
    kept = {n: t for n, t in model.state_dict().items() if ".cbam." not in n and ".side." not in n}
    assert all(torch.equal(back.state_dict()[name], kept[name]) for name in kept)
    assert list(back.state_dict()) == list(net.state_dict())
    assert not hasattr(back.get_submodule("stem"), "_inserted")


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["whole", "safetensors"])
def test_what_took_the_place_of_others_is_named_and_may_stay(
    kind: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out, needs = inserted(kind, net)
    both, back = f"both{Path(file).suffix}", f"back{Path(file).suffix}"
    swapped(out, HEAD, both, needs)
    capsys.readouterr()

    assert run(["revert", both, "-o", back]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "head: the tensors of the module that was there before are no longer in the file" in said
    assert "--partial to take out the 3 others" in said
    assert not Path(back).exists()

    assert run(["revert", both, "-o", back, "--partial"]) == 0
    assert "head stays as it is" in capsys.readouterr().out
    model = loaded(back, needs)
    assert type(model.get_submodule("head")) is nn.Conv2d
    assert list(model.state_dict()) == [
        n for n in loaded(both, needs).state_dict() if ".cbam." not in n and ".side." not in n
    ]
    assert run(["verify", back, "-q"]) == 0
    assert run(["revert", back, "-o", "none.pt", "--partial"]) == 1  # nothing is left to take out


def test_a_faded_module_goes_and_the_old_one_is_back(net: GatedNet) -> None:
    file, needs = saved("weights", net)
    rule = '{match: "{space,channel}_attention", with: ECA, start: preserve}'
    swapped(file, f"replace: [{rule}]", "out.pt", needs)

    assert run(["revert", "out.pt", "-o", "back.pt", "-q"]) == 0

    assert list(everything(held("back.pt"))) == list(everything(held(file)))


def test_what_was_put_into_a_new_module_goes_with_it(net: GatedNet) -> None:
    file, out, needs = inserted("whole", net)
    rule = "{match: channel_attention.cbam.module, with: ECA}"
    swapped(out, f"replace: [{rule}]", "a.pt", needs)
    swapped("a.pt", "insert: [{after: channel_attention, with: CBAM}]", "b.pt", needs)

    assert run(["revert", "b.pt", "-o", "back.pt", "-q"]) == 0

    assert list(everything(held("back.pt"))) == list(everything(held(file)))


def test_names_that_are_others_in_the_file_need_the_same_options(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({f"backbone.{n}": t for n, t in net.state_dict().items()}, "net.safetensors")
    rename = ["--rename", "backbone.="]
    asked = ["replace", "net.safetensors", "-c", "swap.yaml", "-o", "out.safetensors"]
    assert run([*asked, *FACTORY, *rename, "-q"]) == 0

    assert run(["revert", "out.safetensors", "-o", "back.safetensors"]) == 3
    assert "no tensor in it belongs to 'channel_attention.cbam'" in capsys.readouterr().err
    assert run(["revert", "out.safetensors", "-o", "back.safetensors", *rename, "-q"]) == 0
    assert Path("back.safetensors").read_bytes() == Path("net.safetensors").read_bytes()
    both = [*FACTORY, *rename, "-q", "--force"]
    assert run(["revert", "out.safetensors", "-o", "back.safetensors", *both]) == 0
    assert Path("back.safetensors").read_bytes() == Path("net.safetensors").read_bytes()


def test_prefixes_of_wrappers_stay(net: GatedNet) -> None:
    torch.save({f"module.{n}": t for n, t in net.state_dict().items()}, "net.pt")
    assert run(["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", *FACTORY, "-q"]) == 0

    assert run(["revert", "out.pt", "-o", "back.pt", "-q"]) == 0

    assert list(everything(held("back.pt"))) == list(everything(held("net.pt")))


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_folders_are_reverted_too(net: GatedNet) -> None:
    trained(net)
    Path("net").mkdir()
    save_file(net.state_dict(), "net/model.safetensors")
    dcp: Any = torch.distributed.checkpoint
    dcp.save({"model": net.state_dict()}, checkpoint_id="shards", no_dist=True)
    for name in ("net", "shards"):
        assert (
            run(["replace", name, "-c", "swap.yaml", "-o", "out", *FACTORY, "-q", "--force"]) == 0
        )
        assert run(["revert", "out", "-o", "back", "-q", "--force"]) == 0
        old = {file.name: file.read_bytes() for file in Path(name).iterdir()}
        new = {file.name: file.read_bytes() for file in Path("back").iterdir()}
        assert new.keys() == old.keys()
        assert name == "shards" or new == old
        state = loaded("back", FACTORY).state_dict()
        assert all(torch.equal(state[n], t) for n, t in net.state_dict().items())


def test_an_optimizer_of_which_nothing_is_certain_needs_the_model(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    net.register_buffer("mean", torch.zeros(3))  # looks like a parameter
    _, out, _ = inserted("training", build_gated())
    payload = held(out)
    payload["model"]["mean"] = torch.zeros(3)
    torch.save(payload, "out.pt")
    capsys.readouterr()

    assert run(["revert", "out.pt", "-o", "back.pt"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "'optimizer' was left out" in said
    assert "`--model FACTORY` tells the order of the parameters" in said
    assert run(["revert", "out.pt", "-o", "model.pt", *FACTORY]) == 0
    assert "the state of 12 parameters kept" in " ".join(capsys.readouterr().out.split())
    assert "optimizer" in held("model.pt")


def test_calls_and_files_that_cannot_be_reverted_are_refused(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = inserted("whole", net)
    Path("there.pt").write_bytes(b"")
    for args, code, message in [
        ([out], 2, "there is no file to write"),
        ([out, "-o", out, "--force"], 3, "is the input"),
        ([out, "-o", "there.pt"], 3, "exists"),
        ([out, "-o", "back.safetensors"], 3, "cannot be rewritten as data in another format"),
        (["gone.pt", "-o", "back.pt"], 3, "no such file"),
        ([out, "-o", "back.pt", "--format", "x"], 2, "no report of the form 'x'"),
    ]:
        capsys.readouterr()
        assert run(["revert", *args]) == code, message
        assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("back.pt").exists()
    assert run(["revert", out, "--dry-run"]) == 0
    assert "can be taken out of out.pt; nothing was written" in capsys.readouterr().out


def test_a_module_that_torch_names_alone_is_noted(
    net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, needs = inserted("whole", net)
    swapped(out, "replace: [{match: space_attention, with: ECA}]", "both.pt", needs)
    torch.save(loaded("both.pt", needs), "resaved.pt")
    capsys.readouterr()

    assert run(["revert", "resaved.pt", "-o", "back.pt", *ALLOW]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "no receipt says whether space_attention replaced other modules" in said


@pytest.mark.one_in(2)
@pytest.mark.parametrize("form", ["json", "junit", "sarif", "github", "html"])
def test_every_report_has_the_refusal(
    form: str, net: GatedNet, capsys: pytest.CaptureFixture[str]
) -> None:
    file, needs = saved("whole", net)
    swapped(file, HEAD, "out.pt", needs)
    capsys.readouterr()

    assert run(["revert", "out.pt", "-o", "back.pt", "--format", form]) == 1

    assert "no longer in the file" in capsys.readouterr().out

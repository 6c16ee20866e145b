"""Swapped models that are exported and compared.

Covers: exporting.ways, exporting.messages.
"""

from collections import OrderedDict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.finding import Finding
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.examine import export as under_test
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.export import TookTooLongError, export
from modswap.ops.jobs.replace import check_file, replace_file
from modswap.ops.swap import prepare, verified
from tests.models import ByValue, GatedNet

onnx_installed = pytest.mark.skipif(
    find_spec("onnx") is None or find_spec("onnxscript") is None, reason="extra: hosts"
)


class Fixed(nn.Module):
    """Takes maps of the size of its first map alone: (N, C, H, W) -> the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(int(torch.tensor(x.shape[2])), dtype=x.dtype)
        return x + rows[:, None] if rows.shape[0] == x.shape[2] else x


class Drawn(nn.Module):
    """Adds random numbers: (N, C, H, W) -> the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


LINE = ByValue.forward.__code__.co_firstlineno + 1  # of the branch on a value


def findings(
    model: nn.Module,
    ways: str,
    module: str = "ConvGate",
    *,
    verify: str = "",
    unreal: bool = False,
    shape: str = "[1, 3, 28, 28]",
) -> list[Finding]:
    """Swap a gate and return the findings on its exports; the model stays swapped."""
    wants = ", layout: NCHW, wants: NCHW" if ":" in module else ""
    text = (
        f"version: 1\ninputs: [{{shape: {shape}}}]\n"
        f"verify: {{export: [{ways}]{verify}}}\n"
        f"replace: [{{match: space_attention, with: '{module}'{wants}}}]\n"
    )
    recipe = parse_recipe(text, "swap.yaml", ".")
    prepared = prepare(model, recipe, unreal=unreal)
    with verified(model, prepared, lambda _: None) as standing:
        assert standing.verdict.ok
        bench = Bench(model, prepared, standing.after, standing.old, recipe)
        return list(export(bench))


def activation() -> nn.Module:
    return nn.Sequential(OrderedDict(space_attention=nn.ReLU()))


@pytest.fixture(scope="module", autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def test_sound_swap_passes_each_way_at_every_size() -> None:
    found = findings(GatedNet(), "torchscript, pt2", verify=", sizes: [[20, 36], [24, 24]]")

    assert [(one.status, one.path, one.data["way"]) for one in found] == [
        ("passed", "", "torchscript"),
        ("passed", "", "pt2"),
    ]
    for one in found:
        assert list(one.data["apart"]) == [
            "(1, 3, 28, 28)",
            "(1, 3, 28, 28) of other values",
            "a batch of 2",
            "(1, 3, 24, 24)",
            "(1, 3, 20, 36)",
        ]
        assert max(one.data["apart"].values()) < 1e-4
        assert "the same at 5 inputs" in one.what


@onnx_installed
@pytest.mark.slow
@pytest.mark.ci
def test_onnx_is_run_at_every_size() -> None:
    (found,) = findings(GatedNet(), "onnx", verify=", sizes: [[20, 36]]")

    assert (found.status, found.data["failed"]) == ("passed", {})
    assert len(found.data["apart"]) == 4
    assert max(found.data["apart"].values()) < 1e-4


def test_module_that_asks_for_values_fails_where_the_original_was_exported() -> None:
    (pt2,) = findings(GatedNet(), "pt2", "tests.models:ByValue")

    assert pt2.status == "failed"
    assert pt2.what.startswith(
        f"pt2: 'space_attention' at models.py:{LINE}: GuardOnDataDependentSymNode: "
        "Could not guard on data-dependent expression"
    )
    assert pt2.what.endswith("; the original holds there")
    assert "\n" not in pt2.what
    assert "'pt2'" in pt2.fix


def test_branch_that_a_trace_takes_for_good_fails_at_other_values() -> None:
    (found,) = findings(activation(), "torchscript", "tests.models:ByValue")

    assert found.status == "failed"
    place = "at (1, 3, 28, 28) of other values: it computes something else: outputs are"
    assert found.what.startswith(f"torchscript: {place}")
    # torch reports it by a warning alone
    assert (
        f"(the tracer warns: 'space_attention' at models.py:{LINE}: Converting a tensor"
        in found.what
    )


@onnx_installed
@pytest.mark.slow
def test_module_that_asks_for_values_fails_in_onnx() -> None:
    (found,) = findings(GatedNet(), "onnx", "tests.models:ByValue")

    assert found.status == "failed"
    assert found.what.startswith(f"onnx: 'space_attention' at models.py:{LINE}: GuardOnData")


def test_size_that_a_trace_bakes_in_fails_there() -> None:
    (found,) = findings(
        GatedNet(), "torchscript", f"{__name__}:Fixed", verify=", sizes: [[20, 36]]"
    )

    assert found.status == "failed"
    assert found.what.startswith("torchscript: at (1, 3, 20, 36): ")
    assert "(1, 3, 28, 28)" in found.data["apart"]
    assert found.fix.startswith("export it anew for each size that it is run at, or choose")


def test_original_that_could_not_be_exported_either_is_reported_and_not_failed() -> None:
    model = GatedNet()
    model.channel_attention = nn.Sequential(ByValue())

    (found,) = findings(model, "pt2")

    assert found.status == "skipped"
    assert found.what.startswith("pt2: the original could not be exported so either: ")
    assert f"'channel_attention.0' at models.py:{LINE}" in found.what


def test_outputs_that_are_drawn_anew_are_not_compared() -> None:
    (found,) = findings(GatedNet(), "pt2", f"{__name__}:Drawn", verify=", optional: [export]")

    assert (found.status, found.what) == ("skipped", "pt2: its outputs are drawn anew each time")


def test_model_is_as_it_was_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    model = GatedNet().train()
    model.stem.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = {path: module.training for path, module in model.named_modules()}
    state = torch.random.get_rng_state()

    findings(model, "pt2, torchscript", "tests.models:ByValue")

    after = model.state_dict()
    kept = [name for name in before if not name.startswith("space_attention")]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert type(model.space_attention).__name__ == "ByValue"
    now = {path: module.training for path, module in model.named_modules()}
    assert all(now[path] is flag for path, flag in flags.items() if path in now)
    assert torch.equal(state, torch.random.get_rng_state())
    assert capfd.readouterr() == ("", "")


def test_weights_that_may_not_be_read_are_made_up() -> None:
    with torch.device("meta"):
        model = GatedNet()

    (found,) = findings(model, "pt2", unreal=True)

    assert found.status == "passed"
    assert all(parameter.is_meta for parameter in model.stem.parameters())


def test_model_of_half_precision_is_compared_in_float32() -> None:
    (found,) = findings(GatedNet().half(), "pt2")

    assert found.status == "passed"


def test_large_model_is_skipped_with_its_size() -> None:
    with torch.device("meta"):
        model = GatedNet()
        model.ballast = nn.Linear(9000, 9000)

    (found,) = findings(model, "pt2", unreal=True, verify=", optional: [pt2]")

    assert found.status == "skipped"
    assert "its weights take 309 MiB: models up to 256 MiB are copied" in found.what


@pytest.mark.parametrize("swallowed", [0, 1])
def test_way_that_takes_too_long_is_skipped_even_where_torch_swallows_the_error(
    swallowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [swallowed]

    def busy(*args: object) -> None:
        try:
            for _ in range(1 << 27):
                pass
        except TookTooLongError:
            if not left.pop():
                raise
            left.append(0)
            busy()

    monkeypatch.setattr(under_test, "TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(under_test, "REPEAT_SECONDS", 0.2)
    monkeypatch.setattr(under_test, "_tried", busy)

    (found,) = findings(GatedNet(), "pt2", verify=", optional: [pt2]")

    assert (found.status, found.what) == ("skipped", "pt2: it took longer than 0 s")


@pytest.mark.parametrize(
    ("optional", "status"),
    [("", "failed"), ("pt2", "failed"), ("onnx", "skipped"), ("export", "skipped")],
)
def test_a_way_whose_package_is_missing_fails_unless_it_is_optional(
    optional: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "missing", lambda _: ("onnx", "onnxscript"))

    (found,) = findings(GatedNet(), "onnx", verify=f", optional: [{optional}]")

    assert (found.status, found.what) == (status, "onnx: onnx, onnxscript: not installed")
    assert found.fix.startswith("pip install onnx onnxscript onnxruntime")
    allowed = "`verify: {optional: [onnx]}`" in found.fix
    assert allowed is (status == "failed")


def test_outputs_that_are_drawn_anew_fail_where_the_export_is_asked_for() -> None:
    (found,) = findings(GatedNet(), "pt2", f"{__name__}:Drawn")

    assert (found.status, found.what) == ("failed", "pt2: its outputs are drawn anew each time")


def test_nothing_is_exported_unless_the_recipe_asks() -> None:
    assert findings(GatedNet(), "") == []


@pytest.mark.parametrize("compiler", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiled_model_is_compared(compiler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiler:
        monkeypatch.setattr("modswap.ops.examine.exporting.ways._compiler", lambda: False)
    (found,) = findings(activation(), "compile", f"{__name__}:Halved", shape="[1, 2, 4, 4]")

    assert found.status == "passed"


class Halved(nn.Module):
    """Halves its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


@pytest.mark.slow
def test_commands_report_it_and_end_with_an_error(tmp_path: Path) -> None:
    torch.save(GatedNet(), tmp_path / "net.pt")
    text = (
        "version: 1\ninputs: [{shape: [1, 3, 28, 28]}]\nverify: {export: [pt2]}\n"
        "replace: [{match: space_attention, with: 'tests.models:ByValue'}]\n"
    )
    subject = Subject(tmp_path / "net.pt", Policy(("tests.models.*",)))
    job = Job(subject, parse_recipe(text, "swap.yaml", "."), tmp_path / "out.pt")

    for outcome in (check_file(job), replace_file(job)):
        assert outcome.error is not None
        assert f"pt2: 'space_attention' at models.py:{LINE}" in outcome.error.what
        assert outcome.exit_code == outcome.error.code != 0
    assert not (tmp_path / "out.pt").exists()

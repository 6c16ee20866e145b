"""What modules put out on a real input, and the file of it."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modswap.core.asked.job import Layers, Policy, Subject
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import CheckpointError, InputError
from modswap.core.seen.values import TensorInfo
from modswap.ops.jobs import layer_outputs as jobs
from modswap.ops.jobs.layer_outputs import layer_outputs, values_of
from modswap.ops.jobs.tree import read_tree
from modswap.ops.run.inputs import DummyCall
from tests.models import GatedNet, SharedNet

ALLOW = Policy(allow=("tests.models.*",))
IMAGE = (TensorInput(shape=(1, 3, 28, 28)),)


class Pair(nn.Module):
    """Calls one layer twice, and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if x.shape[-1] != 2:
            raise ValueError("two features")
        return {"logits": self.one(self.one(self.drop(x))), "kept": x.relu_()}


def test_every_call_and_every_tensor_of_an_output_is_described() -> None:
    net = Pair()
    call = DummyCall((torch.tensor([[1.0, -1.0]]),), {})

    found = layer_outputs(net, call, {"": net, "one": net.one}, keep=True)

    assert [(v.call, v.place) for v in found.values["one"]] == [(1, ""), (2, "")]
    assert [v.place for v in found.values[""]] == ["logits", "kept"]
    assert list(found.tensors) == ["one", "one#2", "output.logits", "output.kept"]
    expected = net.one(torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(found.tensors["one"], expected)
    assert found.values[""][1].zeros == 0.5
    assert net.training


def test_values_are_counted_over_what_is_finite() -> None:
    x = torch.tensor([0.0, 1.0, 3.0, math.nan, math.inf, -math.inf])

    found = values_of(x)

    assert [found.mean, found.std, found.zeros] == pytest.approx([4 / 3, 1.2472191, 1 / 6])
    assert (found.nan, found.infinite) == (1, 2)
    assert (found.call, found.place, found.info) == (1, "", TensorInfo((6,)))


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        (torch.tensor([math.nan]), None, None),
        (torch.empty(0), None, None),
        (torch.tensor([3 + 4j]), 5.0, 0.0),
        (torch.tensor([True, False]), 0.5, 0.5),
        (torch.tensor([1e308, -1e308], dtype=torch.float64), 0.0, None),
    ],
)
def test_values_of_any_dtype_have_a_mean(
    values: torch.Tensor, mean: float | None, std: float | None
) -> None:
    found = values_of(values)

    assert (found.mean, found.std) == (mean, std)


def test_input_that_does_not_fit_is_an_error_of_the_input() -> None:
    with pytest.raises(InputError, match="the model does not run on it: ValueError: two features"):
        layer_outputs(Pair(), DummyCall((torch.ones(1, 3),), {}), {}, keep=False)


def test_outputs_to_keep_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SPARE_BYTES", 4)
    net = Pair()

    with pytest.raises(InputError, match="select fewer modules"):
        layer_outputs(net, DummyCall((torch.ones(1, 2),), {}), {"one": net.one}, keep=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("net") / "net.pt"
    torch.save(GatedNet().eval(), file)
    return file


def wants(path: str) -> bool:
    return path.endswith("_attention")


def test_tree_has_outputs_of_the_wanted_modules_and_a_file_of_them(
    file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "outputs.safetensors"
    subject = Subject(file, ALLOW, None, IMAGE)

    tree = read_tree(subject, layers=Layers(wants, out))

    rows = {row.path: row for row in tree.rows}
    assert {path for path, row in rows.items() if row.outputs} == {
        "space_attention", "channel_attention",
    }  # fmt: skip
    saved = load_file(out)
    values = rows["space_attention"].outputs[0]
    assert tuple(saved["space_attention"].shape) == values.info.shape
    assert float(saved["space_attention"].double().mean()) == pytest.approx(values.mean)
    with pytest.raises(CheckpointError, match="exists"):
        read_tree(subject, layers=Layers(wants, out))
    read_tree(subject, layers=Layers(wants, out, force=True))


def test_module_of_two_paths_has_its_outputs_once(tmp_path: Path) -> None:
    torch.save(SharedNet().eval(), tmp_path / "net.pt")
    subject = Subject(tmp_path / "net.pt", ALLOW, None, (TensorInput(shape=(1, 8, 4, 4)),))

    tree = read_tree(subject, layers=Layers(lambda path: path in {"first", "second"}))

    outputs = {row.path: len(row.outputs) for row in tree.rows}
    assert (outputs["first"], outputs["second"]) == (2, 0)


def test_outputs_never_take_the_place_of_the_checkpoint(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    before = file.read_bytes()

    with pytest.raises(CheckpointError):
        read_tree(Subject(file, ALLOW, None, IMAGE), layers=Layers(wants, link, force=True))
    assert file.read_bytes() == before


def test_input_of_a_file_is_what_the_model_is_given(file: Path, tmp_path: Path) -> None:
    import struct

    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 28, 28), }"
    data = struct.pack("<6sBBH", b"\x93NUMPY", 1, 0, len(header)) + header + bytes(4 * 3 * 28 * 28)
    (tmp_path / "x.npy").write_bytes(data)

    subject = Subject(file, ALLOW, input_files=(str(tmp_path / "x.npy"),))
    tree = read_tree(subject, layers=Layers(lambda path: path == "stem"))

    (stem,) = (row for row in tree.rows if row.path == "stem")
    assert stem.outputs
    assert stem.flops
    assert any("x.npy, (1, 3, 28, 28)" in note for note in tree.notes)

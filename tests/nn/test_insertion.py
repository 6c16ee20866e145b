"""Modules beside others: a gate of 0 keeps every bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import modswap
from modswap.core.errors import CheckpointError
from modswap.core.seen.joint import Form, Joint, Place
from modswap.nn.insertion import Insertion, Probe, changed_at, changed_inputs, input_at

SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-41, -1e-41, 1.5]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


class Giving(nn.Module):
    """A module that gives one number everywhere."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, self.number) + 0 * x.sum().nan_to_num()


def inserted(module: nn.Module, form: Form, place: Place = "after", channels: int = 8) -> Insertion:
    return Insertion(module, Joint(place, form, channels, 0, (0,) if place == "around" else ()))


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", ["add", "scale", "blend"])
def test_a_closed_gate_keeps_every_bit_for_any_module(form: Form, dtype: torch.dtype) -> None:
    x = torch.tensor([SPECIAL, SPECIAL[::-1]], dtype=dtype)

    for number in (1.0, -1.0, 0.0, -0.0, float("nan"), float("inf"), float("-inf")):
        new = inserted(Giving(number), form).to(dtype)
        assert torch.equal(bits(new.joined(x, new._new(x))), bits(x)), number


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("add", lambda x, g: x + g * 3),
        ("scale", lambda x, g: x + g * (3 - x)),
        ("blend", lambda x, g: (1 - g) * x + g * 3),
    ],
)
def test_an_open_gate_lets_the_module_in_for_each_channel(
    form: Form, expected: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> None:
    new, x = inserted(Giving(3.0), form), torch.randn(4, 8)
    assert new.gate is not None
    new.gate.data = torch.linspace(0, 1, 8)

    torch.testing.assert_close(new(x), expected(x, new.gate.data))


def test_gates_of_channels_that_come_first_are_spread_over_the_map() -> None:
    new = Insertion(Giving(3.0), Joint("after", "add", 2, 2))
    assert new.gate is not None
    new.gate.data = torch.tensor([0.0, 1.0])

    y = new(torch.zeros(1, 2, 3, 4))

    assert y.sum((0, 2, 3)).tolist() == [0.0, 36.0]


def test_without_a_gate_the_module_is_in_the_way_or_is_added() -> None:
    x = torch.randn(2, 8)

    assert torch.equal(inserted(Giving(3.0), "plain")(x), torch.full_like(x, 3.0))
    around = inserted(Giving(3.0), "plain", "around")
    assert torch.equal(around.joined(x, around.branch((x,), {})), x + 3)
    assert around.gate is None


def test_the_gate_learns_and_nothing_of_the_module_spoils_the_gradients_of_what_is_kept() -> None:
    class Singular(nn.Module):
        """A module whose backward is not finite at 0."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.abs().sqrt()

    x = torch.zeros(2, 8, requires_grad=True)
    new = inserted(Singular(), "add")
    new(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))

    ones = torch.ones(2, 8)
    learning = inserted(Giving(3.0), "add")
    learning(ones).sum().backward()
    assert learning.gate is not None
    assert learning.gate.grad is not None
    assert (learning.gate.grad == 6).all()


def test_random_numbers_of_a_module_behind_a_closed_gate_are_not_missing_to_others() -> None:
    x = torch.randn(4, 8)
    new = inserted(nn.Dropout(0.5), "add")

    torch.manual_seed(3)
    first = torch.rand(4)
    torch.manual_seed(3)
    new.train()(x)
    assert torch.equal(torch.rand(4), first)

    torch.manual_seed(3)
    assert new.gate is not None
    new.gate.data.fill_(1.0)
    new(x)
    assert not torch.equal(torch.rand(4), first)


def test_a_module_that_works_in_place_does_not_change_what_is_kept() -> None:
    x = torch.randn(2, 8)
    kept = x.clone()

    y = inserted(nn.ReLU(inplace=True), "add")(x)

    assert torch.equal(x, kept)
    assert torch.equal(y, kept)


def test_a_faded_module_gets_all_inputs_and_one_tensor_stays_one() -> None:
    class Both(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, flag: bool) -> Any:
            assert flag
            return (q + 1 if q is k else q, None)

    new = inserted(Both(), "blend", "instead")
    assert new.gate is not None
    new.gate.data.fill_(1.0)
    x = torch.randn(2, 8)

    given = new.branch((x, x), {"flag": True})
    y = new.joined((x, None), given)

    torch.testing.assert_close(y[0], x + 1)
    assert y[1] is None
    whole = torch.zeros(2, dtype=torch.int64)
    assert new.joined(whole, whole) is whole
    assert new.joined("text", "text") == "text"


def test_a_probe_shows_a_branch_what_it_has_to_return() -> None:
    seen: list[Any] = []
    probe = Probe(Joint("around", source=("x",), target=("out", 1)))
    probe.register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))

    probe.pass_by({"out": [0, "given back"]}, (), {"x": "given"})

    assert seen == [("given", "given back")]
    assert probe.joined("x", None) == "x"
    assert Probe(Joint("before"))("x") == "x"


def test_values_are_changed_at_their_places() -> None:
    from collections import OrderedDict, namedtuple
    from dataclasses import dataclass

    pair = namedtuple("pair", "a b")

    @dataclass
    class Out:
        a: int
        b: int = 0

    def more(value: int) -> int:
        return value + 1

    assert changed_at(1, (), more) == 2
    assert changed_at([1, (2, 3)], (1, 0), more) == [1, (3, 3)]
    assert changed_at(pair(1, 2), ("b",), more) == pair(1, 3)
    assert changed_at(OrderedDict(a=1), ("a",), more) == {"a": 2}
    assert changed_at(Out(1), ("a",), more) == Out(2)
    assert changed_inputs((1, [2, 3]), {}, (1, 0), more) == ((1, [3, 3]), {})
    assert changed_inputs((1,), {"x": 2}, ("x",), more) == ((1,), {"x": 3})
    assert input_at((1, [2, 3]), {}, (1, 1)) == 3


@pytest.mark.parametrize(("place", "what"), [((3,), "the input 3"), (("y",), "the input 'y'")])
def test_a_call_without_the_input_is_refused(place: tuple[Any, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        input_at((1,), {"x": 2}, place)


def test_a_place_that_is_not_there_and_a_value_that_is_no_tensor_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no 2 in a list"):
        changed_at([1], (2,), lambda x: x)
    with pytest.raises(ValueError, match="takes a tensor, and is given str"):
        inserted(nn.Identity(), "add")("text")


def test_it_prints_its_place() -> None:
    new = Insertion(nn.Identity(), Joint("around", "add", 1, 0, (0,), (1, "a")))

    assert new.extra_repr() == "around, add, source=(0,), target=(1, 'a')"


def test_a_joint_of_more_axes_than_a_tensor_has_is_refused() -> None:
    with pytest.raises(ValueError, match="axes is 1000000000, expected at most 8"):
        Insertion(nn.Identity(), Joint("after", "add", 1, 10**9))


def general(new: Insertion, x: torch.Tensor, module: torch.Tensor) -> torch.Tensor:
    """Return what the form gives that reads no value of a gate."""
    with torch.enable_grad():
        made: torch.Tensor = new._mixed(x, module)
        return made.detach()


@pytest.mark.parametrize("form", ["add", "scale", "blend"])
@pytest.mark.parametrize("value", [0.0, 0.25, 0.75, 1.0, "mixed"])
def test_in_evaluation_fewer_passes_over_a_map_give_the_same(form: Form, value: Any) -> None:
    new, x = inserted(Giving(3.0), form), torch.randn(4, 8)
    assert new.gate is not None
    new.gate.data = torch.linspace(0, 1, 8) if value == "mixed" else torch.full((8,), value)
    other = torch.randn(4, 8)

    with torch.no_grad():
        quick = new._mixed(x, other)

    torch.testing.assert_close(quick, general(new, x, other))
    assert torch.equal(quick[:, new.gate == 0], x[:, new.gate == 0])
    assert (quick is x) == (value == 0.0)


@pytest.mark.parametrize("form", ["add", "scale", "blend"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_gradients_a_closed_gate_keeps_every_bit(form: Form, dtype: torch.dtype) -> None:
    x = torch.tensor([SPECIAL, SPECIAL[::-1]], dtype=dtype)

    with torch.no_grad():
        for number in (1.0, -0.0, float("nan"), float("inf")):
            new = inserted(Giving(number), form).to(dtype).eval()
            assert torch.equal(bits(new.joined(x, new._new(x))), bits(x)), number
            vmapped = torch.vmap(lambda row, new=new: new.joined(row, torch.full_like(row, 3)))(x)
            assert torch.equal(bits(vmapped), bits(x))


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_what_is_recorded_or_has_no_values_takes_the_form_that_reads_none() -> None:
    new, x = inserted(nn.Linear(8, 8), "add").eval(), torch.randn(4, 8)
    assert new.gate is not None
    traced = torch.jit.trace(new, (x,))
    exported = torch.export.export(new, (x,)).module()
    compiled = torch.compile(new, backend="eager", fullgraph=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert new(mode.from_tensor(x)).shape == x.shape
    assert new.to("meta")(x.to("meta")).shape == x.shape
    new = new.to_empty(device="cpu")
    new.load_state_dict(traced.state_dict())
    for made in (traced, exported):  # recorded while the gates were closed
        for name, gate in made.named_parameters():
            if name.endswith("gate"):
                gate.fill_(0.5)
    new.get_parameter("gate").fill_(0.5)

    expected = new(x)

    for made in (traced, exported, compiled):
        assert not torch.equal(made(x), x)
    for made in (traced, exported):
        torch.testing.assert_close(made(x), expected)


@pytest.mark.parametrize("name", ["place", "form", "axes", "source", "target"])
@pytest.mark.parametrize("value", [None, 9, "x", [1], {}, (None,), 1.5])
def test_file_that_joins_in_no_known_way_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    module = inserted(nn.ReLU(), "add")
    vars(module)[name] = value
    torch.save(nn.Sequential(module), tmp_path / "net.pt")

    with pytest.raises(
        CheckpointError, match=f"attribute '{name}' of an Insertion has a value that"
    ):
        modswap.load(tmp_path / "net.pt")

"""The explanation of a forward: its lines, values, numbers, checks, and what it leaves untouched.

Covers: axes, job, operators, passes, recorder, rows, subject.
"""

import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modswap.core.errors import CheckpointError, ExplainError, InputError
from modswap.core.explained.record import Explained, Line
from modswap.nn import BiLevelRoutingAttention, MultiHeadSelfAttention
from modswap.ops.explain.explain import UNFUSED, UNSURE, ExplainRequest, explained
from modswap.ops.explain.operators import Operators
from modswap.ops.explain.passes import Forward, same_bits
from modswap.ops.explain.recorder import LineRecorder
from tests.ops.explain.odd_tensors import Again, Nested, Packed, Sparse
from tests.ops.explain.traps import Broken, Doubled, Loops, Mended, Once, Restless, Traps


def told(module: nn.Module, *inputs: Any, depth: int | None = None, **how: Any) -> Explained:
    torch.manual_seed(0)
    wanted = ExplainRequest(
        "it", depth, times=how.pop("times", False), plain=how.pop("plain", None)
    )
    return explained(Forward(module, inputs, how), wanted)


def line_of(found: Explained, start: str) -> Line:
    return next(line for line in found.root.walk() if line.text.startswith(start))


@pytest.fixture(scope="module")
def traps() -> Explained:
    return told(Traps().eval(), torch.randn(2, 5, 12))


def test_lines_of_several_rows_are_one_statement_without_comments(traps: Explained) -> None:
    line = line_of(traps, "q, k, v")

    assert line.text.startswith("q, k, v = (self.qkv(x) .unflatten(-1, (3")
    assert "comment" not in line.text
    assert 'self.seen = "a # no comment"' in [one.text for one in traps.root.lines]
    assert line.count == 1


def test_lines_say_what_they_set_with_names_of_axes(traps: Explained) -> None:
    values = {line.text[:4]: list(map(str, line.values)) for line in traps.root.lines}

    assert line_of(traps, "q, k, v").values[0].name == "q"
    assert values["q, k"][0] == "q (N, heads, L, 3)"
    assert values["z = "] == ["z (N, L, L)"]
    assert values["z.mu"] == ["z (N, L, L)"]
    assert values["self"] == ["self.seen = 'a # no comment'"]
    assert values["retu"] == ["→ (N, L, C)"]
    assert ("heads", "4") in traps.axes


def test_loops_and_branches_are_folded_with_counts(traps: Explained) -> None:
    counts = {line.text: line.count for line in traps.root.lines}

    assert counts["for layer in self.layers:"] == 3
    assert counts["y = layer(y)"] == 3
    assert counts["else: y.neg_()"] == 0
    assert counts["with torch.no_grad():"] == 1
    assert counts["total = sum(layer(y) for layer in self.layers)"] == 1


def test_loops_in_loops_count_their_rounds() -> None:
    counts = {line.text: line.count for line in told(Loops(), torch.zeros(1)).root.lines}

    assert counts == {
        "for number in range(4):": 4,
        "for _ in range(number):": 4,  # rounds of 0, 1, 2 and 1
        "x = x + 1": 4,
        "if number == 3:": 4,
        "break": 1,
        "steps = 0": 1,
        "while steps < 5:": 5,
        "with torch.no_grad():": 5,
        "steps += 1": 5,
        "return x": 1,
    }


def test_einsum_has_a_legend(traps: Explained) -> None:
    assert line_of(traps, "z = ").legend == "n = N, l = L, c = C, m = L; Σ c"


def test_flops_of_lines_add_up_to_those_of_torchs_counter(traps: Explained) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Traps().eval()(torch.randn(2, 5, 12))

    own = sum(line.numbers.flops for line in traps.root.lines)
    heads = [line for line in traps.root.lines if line.text.startswith(("for", "with"))]
    assert [line.numbers.flops for line in heads] == [0, 0]
    assert own == traps.numbers.flops == traps.counter == counter.get_total_flops()
    # the CPU's attention, which that counter leaves out: twice 2 N heads L L d
    assert line_of(traps, "y = F.").numbers.beyond == 4 * 2 * 4 * 5 * 5 * 3 == traps.numbers.beyond


def test_bytes_are_those_of_new_results(traps: Explained) -> None:
    assert line_of(traps, "z = ").numbers.nbytes == 4 * 2 * 5 * 5
    assert line_of(traps, "z.mul_").numbers.nbytes == 0
    assert line_of(traps, "total =").numbers.nbytes == 6 * 4 * 2 * 5 * 12  # three layers, sums


def test_methods_of_the_module_are_followed_and_others_on_request() -> None:
    net = Doubled().eval()
    x = torch.randn(2, 5, 12)

    near, far, deep = (told(net, x, depth=depth) for depth in (0, 1, 2))

    assert [call.name for line in near.root.walk() for call in line.calls] == []
    names = [call.name for line in far.root.walk() for call in line.calls]
    assert names == ["Traps", "Traps.finish", "Sequential"]
    names = [call.name for line in deep.root.walk() for call in line.calls]
    assert {"helper", "Linear", "ReLU"} <= set(names)
    linear = next(c for line in deep.root.walk() for c in line.calls if c.paths[:1] == ("tail.0",))
    assert (linear.paths, linear.count, linear.lines) == (("tail.0", "tail.2"), 2, ())
    assert near.numbers == far.numbers == deep.numbers


def test_same_tensor_in_several_places_stays_the_same() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 3, 8)

    found = told(attention, x, x, x, depth=1)

    assert found.equal
    assert found.notes == (UNFUSED,)
    assert any("F.multi_head_attention_forward" in line.text for line in found.root.walk())


def test_operators_of_python_are_counted_step_by_step() -> None:
    layer = BiLevelRoutingAttention(16, num_heads=2, n_win=7, topk=2).eval()

    found = told(layer, torch.randn(1, 28, 28, 16), plain=False)

    # 49 windows of 16 pixels, each with the 32 keys of 2 windows
    assert found.numbers.beyond == 4 * 49 * 16 * 32 * 16
    assert found.counter == found.numbers.flops
    assert found.left_out == (("modswap::routed_attention", found.numbers.beyond),)


def test_recurrent_layers_are_counted_by_their_weights() -> None:
    found = told(nn.LSTM(8, 16, 2).eval(), torch.randn(5, 3, 8))

    # of 5 steps and 3 samples, 2 for each weight of both layers
    assert found.numbers.beyond == 2 * 5 * 3 * (64 * (8 + 16) + 64 * (16 + 16))
    assert found.left_out == (("aten::mkldnn_rnn_layer", found.numbers.beyond),)


def test_nan_is_marked_where_it_arises() -> None:
    found = told(Broken(), torch.randn(3, 4))

    assert [line.marks for line in found.root.lines] == [(), ("NaN",), ("NaN",)]


def test_nan_is_marked_where_a_later_line_removes_it() -> None:
    found = told(nn.Sequential(Broken(), Mended()), torch.randn(3, 4), depth=2)

    marks = {line.text: line.marks for line in found.root.walk()}
    assert marks["ratio = zero / zero"] == ("NaN",)
    assert marks["masked = x.nan_to_num().masked_fill(x.isnan(), -math.inf)"] == ("inf",)
    assert marks["return masked.softmax(-1).nan_to_num()"] == ()


def test_output_that_varies_is_not_called_equal() -> None:
    found = told(Restless(), torch.randn(3, 4))

    assert not found.equal
    assert UNSURE in found.notes


def test_times_nest_and_cover_the_pass() -> None:
    found = told(Doubled().eval(), torch.randn(2, 5, 12), depth=1, times=True)

    inner = line_of(found, "y = self.inner(x)")
    parts = [line.numbers.seconds or 0.0 for line in inner.calls[0].lines]
    assert sum(parts) > 0
    assert found.plain_seconds is not None
    assert found.plain_seconds > 0
    assert found.numbers.seconds is not None
    assert found.numbers.seconds > 0


def test_module_and_process_stay_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    threads, tracing = torch.get_num_threads(), sys.gettrace()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    x = torch.ones(3, 4)

    found = told_in_place(net, x)

    assert torch.equal(torch.rand(2), expected)
    assert found.equal
    assert found.facts[1].en == "training"
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert (torch.get_num_threads(), sys.gettrace()) == (threads, tracing)


def told_in_place(module: nn.Module, *inputs: Any) -> Explained:
    return explained(Forward(module, inputs), ExplainRequest("it", 1, times=False))


def test_tracer_is_put_back_when_the_module_raises() -> None:
    tracing = sys.gettrace()

    forward = Forward(Traps().eval(), (torch.randn(2, 5, 7),))

    recorder = LineRecorder(forward.code, values=True)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        forward.recorded(recorder, Operators(recorder))

    assert sys.gettrace() is tracing


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"^it: the model refuses the input: RuntimeError: mat1"):
        told(Traps().eval(), torch.randn(2, 5, 7))


def test_module_that_runs_once_only_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^it: the model's own code raised KeyError"):
        told(Once(), torch.randn(2))


def _without_source() -> nn.Module:
    names: dict[str, Any] = {"nn": nn}
    exec("class Made(nn.Module):\n    def forward(self, x):\n        return x\n", names)
    made: nn.Module = names["Made"]()
    return made


def _lambda() -> nn.Module:
    module = nn.Identity()
    module.forward = lambda x: x  # type: ignore[assignment, method-assign] # as users patch it
    return module


def _compiled_in_place() -> nn.Module:
    module = nn.Identity()
    module.compile(backend="eager")
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_without_source, "it: the source of its forward cannot be read in <string>; put its"),
        (_lambda, "it: its forward is a lambda, which has no lines; write it as a `def forward`"),
        pytest.param(
            lambda: torch.compile(nn.Identity(), backend="eager"),
            "it: the module is compiled by torch.compile, which runs no lines of Python; explain",
            marks=[pytest.mark.slow, pytest.mark.ci],  # torch's compiler takes long to import
        ),
        (_compiled_in_place, "it: the module is compiled by torch.compile, which runs no lines"),
        (lambda: torch.jit.script(nn.Identity()), "it: the module is compiled by TorchScript"),
    ],
    ids=["no source", "lambda", "compiled", "compiled in place", "script"],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_module_without_lines_is_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(ExplainError) as error:
        told(make(), torch.zeros(1))

    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_plain_form_is_refused_where_there_is_none() -> None:
    with pytest.raises(ExplainError, match="no plain form"):
        told(Traps().eval(), torch.randn(2, 5, 12), plain=True)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.zeros(2), torch.zeros(2, 1), False),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32), False),
        ((torch.zeros(2),), (torch.zeros(2), torch.zeros(2)), False),
    ],
)
def test_bits_are_compared(one: Any, other: Any, same: bool) -> None:
    assert same_bits(one, other) is same


class Held(nn.Module):
    """Return tensors in a mapping and in a record; an axis of the input can have one size."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        held = {"whole": x.view(2, 9, 3, 3), "none": None, "3": "text"}
        plain = {"a": 1}
        record = Box(x, ())
        return {**held, "box": record, "plain": plain}


@dataclass
class Box:
    one: torch.Tensor
    other: tuple[int, ...]


def test_size_that_two_names_share_stays_a_number() -> None:
    found = told(MultiHeadSelfAttention(64, num_heads=8).eval(), torch.randn(1, 5, 64))

    (heads,) = [line for line in found.root.walk() if line.text.startswith("q, k, v")]
    assert str(heads.values[0]) == "q (N, 8, L, 8)"
    assert ("heads = d", "8") in found.axes
    assert ("C", "64") in found.axes


def test_mappings_and_records_show_their_tensors_and_fixed_axes_have_names() -> None:
    found = told(Held(), torch.zeros(2, 9, 9))

    values = [str(value) for line in found.root.lines for value in line.values]
    assert values == [
        "held = dict(whole (2, 9, 3, 3), 3 'text')",
        "plain = dict",
        "record = Box(one (2, 9, 9), other ())",
        "→ dict(whole (2, 9, 3, 3), 3 'text', box Box(one (2, 9, 9), other tuple), plain dict)",
    ]
    assert found.axes == (("N", "2"), ("L", "9"), ("C", "9"))


def test_axis_of_one_size_is_named_where_no_other_axis_has_it() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 9 * 4, 5))

    found = told(net, torch.zeros(3, 2, 9, 4), depth=1)

    shapes = [str(value) for line in found.root.walk() for value in line.values]
    assert found.axes == (("N", "3"), ("C", "2"), ("H", "9"), ("W", "4"))
    assert "→ (N, 5)" in shapes


def test_lines_of_a_device_wait_for_its_work() -> None:
    waits: list[int] = []
    net = Broken()
    forward = Forward(net, (torch.randn(2),))

    forward.recorded(LineRecorder(forward.code, values=False, wait=lambda: waits.append(1)))

    assert len(waits) == 4  # three lines, and the return


@pytest.mark.parametrize("kind", [Sparse, Packed, pytest.param(Nested, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # torch calls nested and quantised tensors unfinished
def test_tensors_that_are_not_plain_are_described(kind: type[nn.Module]) -> None:
    module, x = kind(), torch.randn(4, 8)
    found = told(module, x)

    assert line_of(found, "return").values
    assert same_bits(module(x), module(x))
    assert not same_bits(module(x), module(x + 1))


@pytest.mark.filterwarnings("ignore")  # as above
def test_nested_and_sparse_tensors_have_the_bytes_of_their_parts() -> None:
    found = told(Sparse(), torch.ones(4, 8))

    # 32 elements of 4 bytes with two indices of 8 bytes each, the product, and its transpose
    assert line_of(found, "rows = ").numbers.nbytes >= 8 * 4 + 8 * 8 + 9 * 8
    nested = line_of(told(Nested(), torch.ones(4, 8)), "nested")
    assert nested.values[0].what == ("2 nested tensors float32",)


def test_forward_that_calls_itself_is_shown_as_deep_as_one_can_read() -> None:
    found = told(Again(), torch.randn(2, 3), times=True)

    assert found.numbers.nbytes == 300 * 24
    assert 20 < len(list(found.root.walk())) < 40

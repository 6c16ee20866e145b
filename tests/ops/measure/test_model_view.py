"""A model before and after a swap, as pages show it."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.ops.measure.model_view import spread_of, timed, viewed_after, viewed_before
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace
from modswap.ops.trace.recorder import Recorder

CASE = Case(DummyCall((TensorInput(shape=(1, 4)),), {}))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.site: nn.Module = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.site(self.stem(x)) + 1)
        return found


def test_view_has_both_trees_and_the_flow_of_the_very_tensors() -> None:
    model = Net()
    view, before = viewed_before(model), trace(model, CASE, unreal=True).seen
    model.site = nn.Sequential(nn.Linear(4, 4))

    after = trace(model, CASE, unreal=True).seen
    view = viewed_after(view, model, (before, after), ["site"])

    assert {row.path for row in view.after} - {row.path for row in view.before} == {"site.0"}
    (flow,) = view.flows
    assert [(one.path, one.inside) for one in flow.sources] == [("stem", False)]
    assert [(one.path, one.beside) for one in flow.targets] == [("", "head")]
    assert view.edges_before == (("stem", "site"),)
    assert view.edges_after == (("stem", "site.0"),)


def test_tensor_of_the_identity_of_an_earlier_one_has_no_maker() -> None:
    recorder, earlier, later = Recorder({}, ""), torch.zeros(1), torch.zeros(1)
    recorder._makers[id(later)] = weakref.ref(earlier), "stem"
    recorder._makers[id(earlier)] = weakref.ref(earlier), "stem"

    assert list(recorder._made_by([later])) == []
    assert list(recorder._made_by([earlier])) == ["stem"]


@contextmanager
def original() -> Iterator[nn.Module]:
    yield Net()


def test_passes_are_timed_where_the_weights_are_real() -> None:
    found = timed(viewed_before(Net()), Net(), original, CASE, unreal=False)
    shapes = timed(viewed_before(Net()), Net(), original, CASE, unreal=True)
    meta = timed(viewed_before(Net()), Net().to("meta"), original, CASE, unreal=True)

    assert found.milliseconds is not None
    assert min(found.milliseconds) > 0
    assert min(found.spread) >= 0
    assert shapes.milliseconds is None
    assert shapes.untimed == "no values were computed: `modswap replace` measures it"
    assert meta.untimed == "the weights were not read: `modswap replace` reads them"


def test_spread_is_half_of_the_distance_between_the_quartiles() -> None:
    assert spread_of([5.0, 1.0, 3.0, 2.0, 4.0]) == 1.0
    assert spread_of([3.0]) == 0.0

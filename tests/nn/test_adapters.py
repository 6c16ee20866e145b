"""Adapters around modules whose layout, inputs or output differ from their site's."""

import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import Adaptation
from modswap.core.seen.site import LAYOUTS, Layout
from modswap.nn.adapters import SiteAdapter


class Recorder(nn.Module):
    """Returns its input and all further inputs."""

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.seen = (x, args, kwargs)
        return x * self.scale


def in_layout(nchw: torch.Tensor, layout: Layout) -> torch.Tensor:
    if layout == "NCHW":
        return nchw
    nhwc = nchw.permute(0, 2, 3, 1)
    return (nhwc if layout == "NHWC" else nhwc.flatten(1, 2)).contiguous()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wants", LAYOUTS)
def test_module_gets_what_it_wants_and_the_site_what_it_gave(layout: Layout, wants: Layout) -> None:
    maps = torch.randn(2, 3, 4, 4)
    inner = Recorder()
    adapter = SiteAdapter(inner, layout=layout, wants=wants)

    y = adapter(in_layout(maps, layout))

    assert torch.equal(inner.seen[0], in_layout(maps, wants))
    assert inner.seen[0].is_contiguous()
    assert torch.equal(y, in_layout(2 * maps, layout))
    assert y.is_contiguous()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((4, 6), {}), (((4, 6),), {}), ((), {"H": 4, "W": 6}), ((None, [4, 6]), {})],
)
def test_tokens_become_a_map_of_the_size_that_is_given(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    names = (*(str(i + 1) for i in range(len(args))), *kwargs)
    inner = Recorder()
    adapter = SiteAdapter(inner, layout="NLC", wants="NHWC", ignores=names)
    tokens = torch.randn(1, 24, 3)

    y = adapter(tokens, *args, **kwargs)

    assert torch.equal(inner.seen[0], tokens.reshape(1, 4, 6, 3))
    assert inner.seen[1:] == ((), {})
    assert torch.equal(y, 2 * tokens)


def test_channels_last_memory_comes_back() -> None:
    adapter = SiteAdapter(Recorder(), layout="NCHW", wants="NHWC")
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)

    assert adapter(x).is_contiguous(memory_format=torch.channels_last)


def test_inputs_that_are_not_ignored_reach_the_module() -> None:
    inner = Recorder()
    adapter = SiteAdapter(inner, layout=None, wants=None, ignores=("mask", "2"))
    x = torch.randn(2, 3)

    adapter(x, "kept", None, mask=False, scale=3)

    assert inner.seen[1:] == (("kept",), {"scale": 3})


def test_map_that_comes_by_keyword_reaches_the_module_first() -> None:
    adapter = SiteAdapter(nn.Identity(), layout="NCHW", wants="NCHW", ignores=("mask",))
    x = torch.randn(1, 2, 3, 3)

    assert adapter(hidden_states=x, mask=None) is x


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((None, torch.ones(1)), {}, "input 1 is not used here and must be None, got a Tensor"),
        ((None,), {"mask": "all"}, "'mask' is not used here and must be None, got a str"),
        ((None,), {"mask": True}, "'mask' is not used here and must be None, got a bool"),
    ],
)
def test_ignored_input_that_says_something_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    adapter = SiteAdapter(Recorder(), layout="NCHW", wants="NCHW", ignores=("1", "mask"))

    with pytest.raises(ValueError, match=message):
        adapter(torch.randn(1, 2, 3, 3), *args[1:], **kwargs)


def test_inputs_that_repeat_the_map_are_not_given_to_the_module() -> None:
    inner = Recorder()
    around = SiteAdapter(inner, layout=None, wants=None, ignores=("mask",), repeats=("key", "2"))
    x = torch.randn(2, 3)

    around(x, 4, x, key=x, mask=None)

    assert inner.seen[0] is x
    assert inner.seen[1:] == ((4,), {})


def test_map_is_found_where_what_repeats_it_comes_first() -> None:
    around = SiteAdapter(nn.Identity(), layout=None, wants=None, repeats=("key",))
    x = torch.randn(2, 3)

    assert around(key=x, query=x) is x


@pytest.mark.parametrize(
    ("key", "reason"), [(torch.ones(2, 3), "is another tensor"), (None, "is None"), (1, "is 1")]
)
def test_repeated_input_that_is_not_the_map_is_refused(key: Any, reason: str) -> None:
    around = SiteAdapter(Recorder(), layout=None, wants=None, repeats=("key",))
    message = f"'key' must be the same tensor as input 0, as in self-attention, and {reason}"

    with pytest.raises(ValueError, match=message):
        around(torch.ones(2, 3), key=key)


def test_adapter_that_was_pickled_before_inputs_could_repeat_still_runs() -> None:
    around = SiteAdapter(nn.Identity(), layout="NCHW", wants="NHWC")
    del around.__dict__["repeats"]

    assert around(torch.ones(1, 2, 3, 4)).shape == (1, 2, 3, 4)


def test_call_without_a_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a tensor among 1 inputs, got none"):
        SiteAdapter(Recorder(), layout=None, wants=None)(None)


def test_tokens_that_make_no_map_are_refused() -> None:
    adapter = SiteAdapter(Recorder(), layout="NLC", wants="NHWC")

    with pytest.raises(ValueError, match="197 tokens are no square, and no height and width"):
        adapter(torch.randn(1, 197, 4))


def test_tokens_are_the_map_that_the_rule_says() -> None:
    inner = Recorder()
    adapter = SiteAdapter(inner, layout="NLC", wants="NHWC").of_grid((2, 8))
    tokens = torch.randn(1, 16, 3)

    assert torch.equal(adapter(tokens), 2 * tokens)
    assert torch.equal(inner.seen[0], tokens.view(1, 2, 8, 3))
    assert "grid=(2, 8)" in repr(adapter)
    with pytest.raises(ValueError, match="36 tokens are no map of 2x8"):
        adapter(torch.randn(1, 36, 3))


def test_half_known_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout is None, wants is 'NHWC': give both or none"):
        SiteAdapter(Recorder(), layout=None, wants="NHWC")


@pytest.mark.parametrize("wants", LAYOUTS)
@pytest.mark.parametrize(
    ("layout", "given", "expected"),
    [
        ("NCHW", (2, 3, 9, 9), (2, 5, 5, 5)),
        ("NHWC", (2, 9, 9, 3), (2, 5, 5, 5)),
        ("NLC", (2, 81, 3), (2, 25, 5)),
    ],
)
def test_projection_and_pooling_follow_in_every_layout(
    layout: Layout, wants: Layout, given: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    added = Adaptation(3, 5, (2, 2))
    adapter = SiteAdapter(Recorder(), layout=layout, wants=wants, adaptation=added)

    assert adapter(torch.randn(given)).shape == expected


def test_pooling_is_the_mean_and_the_projection_linear() -> None:
    adapter = SiteAdapter(
        Recorder(1.0), layout="NCHW", wants="NCHW", adaptation=Adaptation(3, 5, (2, 2))
    )
    x = torch.randn(1, 3, 4, 6)
    project = adapter.project
    assert project is not None
    assert project.bias is not None

    means = x.reshape(1, 3, 2, 2, 3, 2).mean((3, 5))
    expected = torch.einsum("oc,nchw->nohw", project.weight[:, :, 0, 0], means)

    torch.testing.assert_close(
        adapter(x), expected + project.bias[:, None, None], rtol=1e-5, atol=1e-6
    )


def test_tokens_of_any_number_are_projected() -> None:
    adapter = SiteAdapter(Recorder(), layout="NLC", wants="NLC", adaptation=Adaptation(3, 5))

    assert adapter(torch.randn(2, 197, 3)).shape == (2, 197, 5)


def test_fewer_tokens_become_a_smaller_map() -> None:
    class Fewer(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return tokens[:, ::4]

    adapter = SiteAdapter(Fewer(), layout="NCHW", wants="NLC")
    tokens = SiteAdapter(Fewer(), layout="NLC", wants="NLC", adaptation=Adaptation(3, 5))

    assert adapter(torch.randn(1, 3, 4, 4)).shape == (1, 3, 2, 2)
    assert tokens(torch.randn(1, 20, 3)).shape == (1, 5, 5)


def test_tuple_comes_back_with_none_behind() -> None:
    added = Adaptation(3, 3, (1, 1), "tuple", 3)
    adapter = SiteAdapter(Recorder(), layout="NCHW", wants="NCHW", adaptation=added)
    x = torch.randn(1, 3, 2, 2)

    y, *rest = adapter(x)

    assert torch.equal(y, 2 * x)
    assert rest == [None, None]


def test_tuple_of_the_module_itself_is_kept() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return x, "more"

    y, more = SiteAdapter(Pair(), layout="NCHW", wants="NHWC")(torch.zeros(1, 3, 2, 4))

    assert y.shape == (1, 3, 2, 4)
    assert more == "more"


def test_state_names_are_module_and_project() -> None:
    adapter = SiteAdapter(nn.Linear(3, 3), layout="NCHW", wants="NHWC", adaptation=Adaptation(3, 5))

    names = list(adapter.state_dict())

    assert names == ["module.weight", "module.bias", "project.weight", "project.bias"]


def test_adapter_pickles_and_loads_safely_with_plain_attributes() -> None:
    adapter = SiteAdapter(
        nn.Linear(3, 3),
        layout="NCHW",
        wants="NHWC",
        ignores=("mask",),
        repeats=("key",),
        adaptation=Adaptation(3, 5, (2, 2), "tuple", 2),
    )
    x = torch.randn(1, 3, 4, 4)
    file = io.BytesIO()
    torch.save(adapter, file)
    file.seek(0)

    copy = pickle.loads(pickle.dumps(adapter))
    with torch.serialization.safe_globals([SiteAdapter, nn.Linear, nn.Conv2d]):
        loaded = torch.load(file, weights_only=True)  # noqa: TID251 - the adapter's own promise

    assert torch.equal(copy(x, key=x)[0], adapter(x, key=x)[0])
    assert torch.equal(loaded(x, key=x)[0], adapter(x, key=x)[0])


def test_repr_says_what_is_done() -> None:
    adapter = SiteAdapter(
        nn.Identity(), layout="NLC", wants="NHWC", ignores=("mask",),
        repeats=("1",), adaptation=Adaptation(3, 3, (2, 2), "tuple", 2),
    )  # fmt: skip

    assert (
        "layout='NLC', wants='NHWC', ignores=('mask',), repeats=('1',), stride=(2, 2), length=2"
        in repr(adapter)
    )

"""Sizes, parameters and attributes of modules read as data."""

from typing import Any

import pytest

from modswap.core.decided.optimizer import Parameter
from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.pickled.modules import (
    Sizes,
    dtypes_of,
    host_attributes,
    likely_parameters,
    named_parameters,
    sizes_of,
)


def parameter(*size: int, kind: str = "Float", trainable: bool = True) -> Instance:
    storage = Storage(Name("torch", f"{kind}Storage"), "0", 1)
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    tensor = Instance("called", rebuild, (storage, 0, size, ()))
    return Instance("called", Name("torch._utils", "_rebuild_parameter"), (tensor, trainable))


def layer(name: str, *children: Instance, home: str = "torch.nn.modules", **state: Any) -> Instance:
    modules = {str(place): child for place, child in enumerate(children)}
    state = {"_modules": modules, "_parameters": state.pop("parameters", {}), **state}
    return Instance("new", Name(home, name), (), state)


def conv(**state: Any) -> Instance:
    sound = {"kernel_size": (3, 3), "dilation": (1, 1), "stride": (1, 1), "padding": (1, 1)}
    return layer("Conv2d", **{"in_channels": 4, "out_channels": 6, **sound, **state})


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (conv(), Sizes(4, 6, "NCHW")),
        (conv(padding="same"), Sizes(4, 6, "NCHW")),
        (conv(stride=(2, 2)), Sizes(4, 6, "NCHW", keeps=False)),
        (conv(padding=(0, 0)), Sizes(4, 6, "NCHW", keeps=False)),
        (conv(padding="valid"), Sizes(4, 6, "NCHW", keeps=False)),
        (conv(kernel_size=3), Sizes(4, 6, "NCHW", keeps=False)),
        (conv(padding=(1, None)), Sizes(4, 6, "NCHW", keeps=False)),
        (conv(dilation=(1, parameter(1))), Sizes(4, 6, "NCHW", keeps=False)),
        (conv(in_channels="4"), None),
        (layer("Linear", in_features=5, out_features=7), Sizes(5, 7, None)),
        (layer("LayerNorm", normalized_shape=(8,)), Sizes(8, 8, None)),
        (layer("LayerNorm", normalized_shape=(8, 8)), None),
        (layer("Conv2d", home="nets", in_channels=4, out_channels=6), None),
        (layer("LSTM", input_size=3), None),
        (layer("Sequential", layer("ReLU"), conv(), layer("GELU")), Sizes(4, 6, "NCHW")),
        (layer("Sequential", layer("ReLU")), None),
        (layer("Sequential", conv(), layer("Net", home="nets")), None),
        (
            layer("Sequential", conv(stride=(2, 2)), conv(in_channels=6, out_channels=9)),
            Sizes(4, 9, "NCHW", keeps=False),
        ),
    ],
)
def test_sizes_are_those_of_the_layers_of_torch(module: Instance, sizes: Sizes | None) -> None:
    assert sizes_of(module) == sizes


def test_plain_public_attributes_are_those_that_a_host_may_have_set() -> None:
    module = layer(
        "Conv2d", i=3, f=-1, type="Conv", flags=(1, [None]), training=True, _private=1,
        _forward_hooks={}, extra_hooks=1, table={}, data=b"x",
    )  # fmt: skip

    assert host_attributes(module) == {"i": 3, "f": -1, "type": "Conv", "flags": (1, [None])}


def test_parameters_have_the_names_of_torch_and_shared_ones_come_once() -> None:
    shared = parameter(2, 3, kind="Half")
    inner = layer("Linear", parameters={"weight": shared, "bias": parameter(2, trainable=False)})
    model = layer("Sequential", inner, inner, parameters={"scale": parameter(), "tied": shared})

    assert list(named_parameters(model)) == [
        Parameter("scale", ()),
        Parameter("tied", (2, 3)),
        Parameter("0.bias", (2,), trainable=False),
    ]
    assert list(dtypes_of(model))[:3] == ["Float", "Half", "Half"]


def test_tensors_of_a_state_dict_that_seem_to_be_parameters_are_known_once() -> None:
    stored = {
        "module.a.weight": parameter(2, 3),
        "module.a.tied": parameter(2, 3).args[0],
        "module.n.running_mean": parameter(3),
        "module.n.count": parameter(1, kind="Long"),
        "module.b.bias": parameter(3),
        "module.extra_state": 3,
    }

    found = list(likely_parameters(stored, "module."))

    assert found == [Parameter("a.weight", (2, 3)), Parameter("b.bias", (3,))]


def test_tensor_with_attributes_of_its_own_is_a_likely_parameter_of_its_shape() -> None:
    plain = parameter(2, 3).args[0]
    state: dict[str, Any] = {"note": {}}
    made = (plain.what, Name("torch", "Tensor"), plain.args, state)
    marked = Instance("called", Name("torch._tensor", "_rebuild_from_type_v2"), made)

    assert list(likely_parameters({"a.w": marked}, "")) == [Parameter("a.w", (2, 3))]


def test_tensors_with_places_of_no_kind_are_likely_parameters_each_by_itself() -> None:
    plain = parameter(2, 3).args[0]
    offsets: list[Any] = [{}, [], {}]
    odd = [
        Instance("called", plain.what, (plain.args[0], offset, *plain.args[2:]))
        for offset in offsets
    ]

    found = likely_parameters({str(n): one for n, one in enumerate(odd)}, "")

    assert [one.name for one in found] == ["0", "1", "2"]

"""The promises of every row of the catalogue.

Covers: option_types.
"""

import copy
import importlib
import inspect
import pickle
import pkgutil
from dataclasses import replace
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import modswap.nn
from modswap.core.seen.site import LAYOUTS, Layout
from modswap.core.seen.values import TensorInfo
from modswap.io.recipe.reader import parse_recipe
from modswap.nn import CATALOGUE, ACmix, BiLevelRoutingAttention, Replacement
from modswap.nn.adapters import SiteAdapter
from modswap.nn.catalogue.names import plain
from modswap.nn.catalogue.row import read_options
from modswap.nn.construct import construct
from modswap.nn.folded_layers import ZeroOutput
from modswap.nn.inserted_site import InsertedContainer, InsertedSite
from modswap.nn.insertion import Insertion, Probe
from tests.nn.sites import site, tensor

SLOW = pytest.mark.slow
every_row = pytest.mark.parametrize("row", CATALOGUE.values(), ids=list(CATALOGUE))
SHAPES: dict[Layout, tuple[int, ...]] = {
    "NCHW": (2, 8, 6, 9),
    "NHWC": (2, 6, 9, 8),
    "NLC": (2, 36, 8),
}


def made(
    row: Replacement, shape: tuple[int, ...], layout: Layout = "NCHW", dtype: str = "float32"
) -> nn.Module:
    place = replace(site(TensorInfo(shape, dtype), layout=layout), dtype=dtype)
    blueprint = row.fit(place, read_options(row, {}, str), adapt=False)
    return construct(blueprint).to(getattr(torch, dtype)).eval()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("SEBlock", "SEBlock"),
        ("SEAttention", "SEBlock"),
        ("se_layer", "SEBlock"),
        ("CoordAtt", "CoordinateAttention"),
        ("ECAAttention", "ECA"),
        ("CBAMBlock", "CBAM"),
        ("BiFormer", "BiLevelRoutingAttention"),
        ("mhsa", "MultiHeadSelfAttention"),
        ("MHSA", "MultiHeadSelfAttention"),
        ("SE", "SEBlock"),
        ("SEModule", "SEBlock"),
        ("squeeze-excite", "SEBlock"),
        ("SE Block", "SEBlock"),
        ("CA", "CoordinateAttention"),
        ("coord_attn", "CoordinateAttention"),
        ("Coordinate_Att", "CoordinateAttention"),
        ("ECA", "ECA"),
        ("EcaModule", "ECA"),
        ("eca_layer", "ECA"),
        ("BRA", "BiLevelRoutingAttention"),
        ("bi_level_routing_attention", "BiLevelRoutingAttention"),
        ("BiLevelRoutingAttn", "BiLevelRoutingAttention"),
        ("BiLevelRoutingAttention_nchw", "BiLevelRoutingAttention"),
        ("cbam", "CBAM"),
        ("scSE", "SCSE"),
        ("acmix", "ACmix"),
        ("BiLevelRouting", None),
        ("attn", None),
        ("EMA", None),
        ("SelfAtention", None),
        ("DoubleAttention", None),
    ],
)
def test_other_spellings_of_a_module_are_its_row_and_other_modules_are_not(
    name: str, row: str | None
) -> None:
    assert CATALOGUE.spelled(name) == row


def test_no_two_rows_share_a_spelling() -> None:
    names = [{plain(name) for name in (row.name, *row.spellings)} for row in CATALOGUE.values()]

    assert len(set().union(*names)) == sum(map(len, names))


def test_table_is_complete_against_the_folder() -> None:
    found = set()
    for info in pkgutil.iter_modules(modswap.nn.__path__):
        module = importlib.import_module(f"modswap.nn.{info.name}")
        for name, value in inspect.getmembers(module, inspect.isclass):
            own = issubclass(value, nn.Module) and value.__module__ == module.__name__
            if own and not name.startswith("_"):
                found.add(value)

    parts = {SiteAdapter, Insertion, Probe, InsertedSite, InsertedContainer, ZeroOutput}
    assert found - parts == {row.module for row in CATALOGUE.values()}


SIZES = [(14, 14), (9, 12), (7, 20)]


@every_row
@pytest.mark.parametrize("size", SIZES)
def test_flops_are_those_that_torch_counts(row: Replacement, size: tuple[int, int]) -> None:
    H, W = size
    place = site(TensorInfo((1, 64, H, W), "float32"), layout="NCHW")
    blueprint = row.fit(place, read_options(row, {}, str), adapt=False)
    module = construct(blueprint).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        if isinstance(module, ACmix | BiLevelRoutingAttention):
            monkeyed = plainly(module)
            monkeyed(torch.randn(1, 64, H, W))
        else:
            module(torch.randn(1, 64, H, W))

    assert counter.get_total_flops() == row.cost(blueprint.args, H, W).flops


def plainly(module: nn.Module) -> nn.Module:
    """Return a module that attends by plain operations, whose products torch can count."""
    exporting = patch("torch.compiler.is_exporting", return_value=True)
    forward = module.forward

    def run(*args: Any) -> Any:
        with exporting:
            return forward(*args)

    module.forward = run
    return module


@pytest.mark.one_in(3)
@every_row
def test_memory_is_what_the_forward_pass_takes(row: Replacement) -> None:
    shape = (1, 64, 96, 88)
    place = site(TensorInfo(shape, "float32"), layout="NCHW")
    blueprint = row.fit(place, read_options(row, {}, str), adapt=False)
    told = row.cost(blueprint.args, 96, 88).memory

    taken = memory_taken(construct(blueprint).eval(), torch.randn(shape))

    assert abs(taken - told) < max(0.25 * told, 1024)


def memory_taken(module: nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that a forward pass allocates at its worst moment, beside its output."""
    with torch.no_grad():
        output = module(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            module(x)
    assert run.profiler is not None
    assert run.profiler.kineto_results is not None
    events = [event for event in run.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(max(accumulate(event.nbytes() for event in events)) - output.nbytes)


@every_row
def test_what_is_observed_says_what_auto_means(row: Replacement) -> None:
    for field in row.options.model_fields.values():
        assert field.default is not None or "auto: " in str(field.description), field


@every_row
def test_row_has_the_name_of_its_class(row: Replacement) -> None:
    assert CATALOGUE[row.name] is row
    assert row.module.__name__ == row.name
    assert row.name in modswap.nn.__all__


@every_row
def test_options_are_the_arguments_of_the_class(row: Replacement) -> None:
    arguments = set(inspect.signature(row.module).parameters)

    assert set(row.options.model_fields) == arguments - {"layout"}
    assert all(field.description for field in row.options.model_fields.values())


@every_row
def test_example_is_a_rule_that_reads(row: Replacement) -> None:
    recipe = parse_recipe(f"version: 1\nreplace:\n{row.example}", "example", ".")

    (rule,) = recipe.replace
    assert rule.with_ == row.name
    read_options(row, rule.args, str)


@every_row
@pytest.mark.parametrize("layout", LAYOUTS)
def test_module_keeps_shape_dtype_and_device(row: Replacement, layout: Layout) -> None:
    x = torch.randn(SHAPES[layout])

    y = made(row, SHAPES[layout], layout)(x)

    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)


@every_row
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_module_keeps_other_dtypes(row: Replacement, dtype: str) -> None:
    x = torch.randn(SHAPES["NCHW"], dtype=getattr(torch, dtype))

    assert made(row, SHAPES["NCHW"], dtype=dtype)(x).dtype is x.dtype


@every_row
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_sample_is_independent_of_its_batch(row: Replacement, layout: Layout) -> None:
    module = made(row, SHAPES[layout], layout, "float64")
    x = torch.randn(SHAPES[layout], dtype=torch.float64)

    alone = torch.cat([module(one[None]) for one in x])

    torch.testing.assert_close(module(x), alone, rtol=1e-9, atol=1e-12)


@every_row
def test_gradients_are_finite_and_reach_every_parameter(row: Replacement) -> None:
    module = made(row, SHAPES["NCHW"])
    x = torch.randn(SHAPES["NCHW"], requires_grad=True)

    module(x).square().mean().backward()

    assert x.grad is not None
    for gradient in (x.grad, *(parameter.grad for parameter in module.parameters())):
        assert gradient is not None
        assert torch.isfinite(gradient).all()


@every_row
def test_same_output_twice_in_evaluation(row: Replacement) -> None:
    module = made(row, SHAPES["NCHW"])
    x = torch.randn(SHAPES["NCHW"])

    assert torch.equal(module(x), module(x))


@every_row
def test_state_dict_survives_a_round_trip(row: Replacement) -> None:
    module, other = made(row, SHAPES["NCHW"]), made(row, SHAPES["NCHW"])
    x = torch.randn(SHAPES["NCHW"])

    other.load_state_dict(module.state_dict())

    assert torch.equal(module(x), other(x))


@every_row
@pytest.mark.parametrize("size", [(5, 7), (3, 3), (1, 1), (13, 2)])
def test_odd_sizes_work_or_are_refused_in_words(row: Replacement, size: tuple[int, int]) -> None:
    module = made(row, SHAPES["NCHW"])
    x = torch.randn(1, 8, *size)

    try:
        y = module(x)
    except ValueError as refusal:
        text = str(refusal)
    else:
        text = f"{y.shape[2]}x{y.shape[3]}" if y.shape == x.shape else ""

    assert any(str(side) in text for side in size), text


@every_row
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_module_runs_on_meta_as_it_does_on_a_device(row: Replacement, layout: Layout) -> None:
    module, x = made(row, SHAPES[layout], layout), torch.randn(SHAPES[layout])

    real, shape_only = module(x), copy.deepcopy(module).to("meta")(x.to("meta"))

    assert shape_only.shape == real.shape
    assert shape_only.stride() == real.stride()


@pytest.mark.one_in(12)
@pytest.mark.parametrize(
    ("layout", "row"),
    [
        # adapters around rows are alike: one row of the other layouts in every run
        pytest.param(layout, row, marks=() if (layout == "NCHW") is (row.name != "CBAM") else SLOW)
        for layout in LAYOUTS
        for row in CATALOGUE.values()
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_module_compiles_as_one_graph(row: Replacement, layout: Layout) -> None:
    module, x = made(row, SHAPES[layout], layout), torch.randn(SHAPES[layout])
    given = [x.clone().requires_grad_() for _ in range(2)]
    torch.compiler.reset()

    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    outputs = [compiled(given[0]), module(given[1])]
    for output in outputs:
        output.square().sum().backward()

    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-4, atol=1e-4)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=() if name in {"BiLevelRoutingAttention", "ACmix"} else SLOW)
        for name, row in CATALOGUE.items()
    ],
    ids=list(CATALOGUE),
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_module_exports_for_any_batch(row: Replacement) -> None:
    place = site(TensorInfo(SHAPES["NCHW"], "float32"), layout="NCHW")
    blueprint = row.fit(place, read_options(row, {}, str), adapt=False)
    layers = nn.Sequential(construct(blueprint), nn.Conv2d(8, 3, 1)).eval()
    x, larger = torch.randn(SHAPES["NCHW"]), torch.randn(5, *SHAPES["NCHW"][1:])

    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(layers, (x,), dynamic_shapes=({0: batch},))

    found = program.module()(larger)
    torch.testing.assert_close(found, layers(larger), rtol=1e-5, atol=1e-5)


@pytest.mark.one_in(3)
@every_row
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_module_traces(row: Replacement) -> None:
    module, x = made(row, SHAPES["NCHW"]), torch.randn(SHAPES["NCHW"])

    with torch.no_grad():
        traced = torch.jit.trace(module, (x,))
        other = torch.randn_like(x)

        torch.testing.assert_close(traced(other), module(other), rtol=1e-5, atol=1e-5)


@every_row
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of torch's own
def test_function_transforms_see_through_the_module(row: Replacement) -> None:
    module, x = made(row, SHAPES["NCHW"], dtype="float64"), torch.randn(3, 8, 6, 9).double()
    weights = {name: value.detach() for name, value in module.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], one: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = functional_call(module, weights, (one[None],))
        return y.square().sum()

    found = vmap(grad(loss), (None, 0))(weights, x)

    for index, one in enumerate(x):
        module.zero_grad()
        module(one[None]).square().sum().backward()
        for name, value in module.named_parameters():
            torch.testing.assert_close(found[name][index], value.grad, rtol=1e-8, atol=1e-10)


@every_row
def test_module_pickles(row: Replacement) -> None:
    module = made(row, SHAPES["NLC"], "NLC")
    x = torch.randn(SHAPES["NLC"])

    assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))


@every_row
def test_construction_follows_the_callers_random_state(row: Replacement) -> None:
    torch.manual_seed(3)
    first = made(row, SHAPES["NCHW"]).state_dict()
    torch.manual_seed(3)
    second = made(row, SHAPES["NCHW"]).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_unknown_name_without_a_class_is_refused() -> None:
    row = CATALOGUE["BiLevelRoutingAttention"]
    blueprint = row.fit(site(tensor(1, 8, 7, 7)), read_options(row, {}, str), adapt=False)

    with pytest.raises(ValueError, match="'net:Gone' is not in the catalogue, and no class is"):
        construct(replace(blueprint, module="net:Gone"))

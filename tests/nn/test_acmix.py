"""ACmix computes the paper's steps, in tiles and by plain operations, for all options.

Covers: kernels.acmix, kernels.local_attention, kernels.maps, kernels.half_precision.
"""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from modswap.nn import acmix as layer
from modswap.nn.acmix import ACmix
from modswap.nn.kernels import acmix as acmix_passes
from modswap.nn.kernels.local_attention import Geometry, multiplicity
from tests.effort import examples
from tests.nn import acmix_reference


@pytest.fixture
def plain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param:
        monkeypatch.setattr(layer, "supported", lambda terms: False)
    return bool(request.param)


ways = pytest.mark.parametrize("plain", [False, True], ids=["tiles", "plain"], indirect=True)


def shaken(module: nn.Module) -> nn.Module:
    """Return a module whose parameters are not those of its initialisation."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


def pair(*args: Any, **options: Any) -> tuple[ACmix, acmix_reference.ACmix]:
    torch.manual_seed(5)
    module = ACmix(*args, **options).double()
    reference = acmix_reference.ACmix(*args, **options).double()
    shaken(module)
    reference.load_state_dict(module.state_dict())
    return module, reference


def compare(module: nn.Module, reference: nn.Module, x: torch.Tensor) -> None:
    """Check output, and the gradients of the input and of every parameter."""
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = module(one), reference(other)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-10)
    gradient = torch.randn_like(expected)
    y.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-9)
    wanted = dict(reference.named_parameters())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(
            parameter.grad, wanted[name].grad, rtol=1e-8, atol=1e-8, msg=name
        )
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-9, atol=1e-10)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, int], tuple[int, int, int]]:
    dilation = draw(st.integers(1, 3))
    reach = draw(st.integers(0, 3))
    options = {
        "in_planes": draw(st.integers(1, 5)),
        "head": (head := draw(st.integers(1, 4))),
        "out_planes": head * draw(st.integers(1, 4)),
        "kernel_att": 2 * reach + 1,
        "kernel_conv": draw(st.sampled_from([1, 3, 5])),
        "stride": draw(st.integers(1, 3)),
        "dilation": dilation,
    }
    least = reach * dilation + 1
    side = st.integers(least, least + 14)
    return options, (draw(st.integers(1, 3)), draw(side), draw(side))


@pytest.mark.one_in(2)
@ways
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=cases(), last=st.booleans())
def test_same_numbers_as_the_papers_steps(
    plain: bool, case: tuple[dict[str, int], tuple[int, int, int]], last: bool
) -> None:
    options, (images, *size) = case
    module, reference = pair(**options)
    order = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(images, options["in_planes"], *size, dtype=torch.float64)

    compare(module, reference, x.contiguous(memory_format=order))


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("planes", "size", "options"),
    [
        (64, (28, 28), {}),
        (16, (56, 40), {}),  # strips of tiles, most of them inside
        (16, (9, 61), {"head": 8}),
        (32, (40, 11), {"stride": 2}),
        (8, (33, 47), {"stride": 2, "dilation": 2, "kernel_att": 5}),
        (8, (4, 4), {}),  # every window reaches over both borders
    ],
)
def test_same_numbers_on_larger_maps(
    planes: int, size: tuple[int, int], options: dict[str, int]
) -> None:
    module, reference = pair(planes, planes, **options)

    compare(module, reference, torch.randn(2, planes, *size, dtype=torch.float64))


def test_chunks_of_images_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    module, reference = pair(6, 8)
    monkeypatch.setattr(
        acmix_passes, "CHUNK_BYTES", 2 * 22 * 8 * 9 * 7 * 3
    )  # two of five at a time

    compare(module, reference, torch.randn(5, 6, 9, 7, dtype=torch.float64))


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "dilation", "expected"),
    [
        (3, 5, 1, 1, [[1, 2, 2], [1, 3, 1], [2, 2, 1]]),
        (4, 3, 1, 1, [[1, 2, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 2, 1]]),
        (5, 3, 2, 2, [[1, 0, 2, 0, 0], [1, 0, 1, 0, 1], [0, 0, 2, 0, 1]]),
    ],
)
def test_reflection_counts_how_often_a_key_is_met(
    length: int, kernel: int, stride: int, dilation: int, expected: list[list[int]]
) -> None:
    counts = multiplicity(length, Geometry(1, kernel, stride, dilation))

    assert counts.tolist() == expected


@pytest.mark.one_in(2)
@ways
def test_gradients_hold_against_finite_differences(plain: bool) -> None:
    module, _ = pair(2, 4, kernel_att=3, head=2, stride=2)
    names = [name for name, _ in module.named_parameters()]
    x = torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, values, strict=True))
        out: torch.Tensor = torch.func.functional_call(module, given, (x,))
        return out

    assert torch.autograd.gradcheck(run, (x, *module.parameters()))


def test_gradients_have_gradients() -> None:
    module, _ = pair(2, 4, kernel_att=3, head=2)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradgradcheck(module, (x,))


def test_gradient_of_the_positions_bias_is_zero_exactly() -> None:
    module = shaken(ACmix(4, 8))

    module(torch.randn(1, 4, 5, 6)).square().sum().backward()

    assert module.get_parameter("conv_p.bias").grad is not None
    assert not module.get_parameter("conv_p.bias").grad.any()  # type: ignore[union-attr] # it has a gradient
    assert module.get_parameter("conv_p.weight").grad.any()  # type: ignore[union-attr] # it has a gradient


def test_frozen_parameters_and_inputs_get_no_gradient() -> None:
    module, reference = pair(3, 4)
    for one in (module, reference):
        for name, parameter in one.named_parameters():
            parameter.requires_grad_("conv2" in name)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)

    module(x).sum().backward()
    reference(x).sum().backward()

    grads = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert grads == {"conv2.weight", "conv2.bias"}
    expected = reference.conv2.weight.grad
    torch.testing.assert_close(module.conv2.weight.grad, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.bfloat16, 4e-2), (torch.float16, 5e-3)],
)
@pytest.mark.parametrize("widened", [False, True])
def test_other_dtypes_are_close(
    dtype: torch.dtype, tolerance: float, widened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # whether this machine multiplies halves or not
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: not widened)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: not widened)
    exact, _ = pair(8, 16)
    module = copy.deepcopy(exact).to(dtype)
    x = torch.randn(2, 8, 20, 9, dtype=dtype, requires_grad=True)
    same = x.detach().double().requires_grad_()

    y, expected = module(x), exact(same)
    y.sum().backward()
    expected.sum().backward()

    assert y.dtype is dtype
    assert x.grad is not None
    assert same.grad is not None
    for got, wanted in ((y, expected), (x.grad, same.grad)):
        assert ((got.double() - wanted).abs().max() / wanted.abs().max()).item() < tolerance


def test_autocast_computes_in_bfloat16_and_gives_float32() -> None:
    module = shaken(ACmix(8, 16))
    x = torch.randn(2, 8, 9, 10)
    expected = module(x)

    with torch.autocast("cpu", torch.bfloat16):
        y = module(x)
    y.sum().backward()

    assert y.dtype is torch.float32
    assert not torch.equal(y, expected)
    torch.testing.assert_close(y, expected, rtol=0, atol=0.04 * expected.abs().max().item())
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_meta_and_fake_tensors_have_the_right_shape() -> None:
    module = ACmix(4, 8, stride=2)

    with torch.device("meta"):
        alone = ACmix(4, 8, stride=2)(torch.empty(2, 4, 9, 7))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = module(mode.from_tensor(torch.empty(2, 4, 9, 7)))

    assert alone.shape == fake.shape == (2, 8, 5, 4)
    assert module.to("meta")(torch.empty(2, 4, 9, 7, device="meta")).shape == (2, 8, 5, 4)


@pytest.mark.slow
def test_compiled_whole_it_gives_the_same() -> None:
    module, _ = pair(4, 8, stride=2)
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)

    y = torch.compile(module, fullgraph=True, backend="aot_eager")(x)

    torch.testing.assert_close(y, module(x), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_exported_it_gives_the_same_at_every_size() -> None:
    module, _ = pair(4, 8)
    sizes = {0: Dim("n", max=99), 2: Dim("h", min=5, max=999), 3: Dim("w", min=5, max=999)}
    x, other = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((2, 4, 9, 7), (3, 4, 14, 11))
    )

    exported = torch.export.export(module, (x,), dynamic_shapes=(sizes,)).module()

    torch.testing.assert_close(exported(other), module(other), rtol=1e-9, atol=1e-10)


def test_functional_transforms_go_through() -> None:
    module, _ = pair(3, 4)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(module(x).sum(), x)

    got = torch.func.grad(lambda x: module(x).sum())(x.detach())
    each = torch.func.vmap(lambda one: module(one[None])[0])(x.detach())

    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(each, module(x), rtol=1e-9, atol=1e-10)


def test_inference_mode_leaves_nothing_behind_that_training_trips_over() -> None:
    module = ACmix(4, 8)
    x = torch.randn(1, 4, 11, 5)

    with torch.inference_mode():
        expected = module(x).clone()
    y = module(x)
    y.sum().backward()

    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


def test_output_has_the_memory_format_of_the_input() -> None:
    x = torch.randn(2, 4, 9, 7)

    for order in (torch.contiguous_format, torch.channels_last):
        assert ACmix(4, 8)(x.contiguous(memory_format=order)).is_contiguous(memory_format=order)


def test_no_images_give_no_images() -> None:
    module = ACmix(4, 8)
    x = torch.randn(0, 4, 9, 7, requires_grad=True)

    y = module(x)
    y.sum().backward()

    assert y.shape == (0, 8, 9, 7)


def test_names_in_a_state_dict_are_the_published_ones() -> None:
    names = "rate1 rate2 conv1.weight conv1.bias conv2.weight conv2.bias conv3.weight conv3.bias"
    names += " conv_p.weight conv_p.bias fc.weight dep_conv.weight"

    assert list(ACmix(4, 8).state_dict()) == names.split()


def test_bias_that_is_none_loads() -> None:
    module, other = shaken(ACmix(4, 8)), ACmix(4, 8)
    state: dict[str, Any] = {**module.state_dict(), "dep_conv.bias": None}
    x = torch.randn(1, 4, 5, 6)

    other.load_state_dict(state)

    assert other.dep_conv.bias is None
    assert torch.equal(other(x), module(x))
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))


def test_bias_of_the_convolution_counts_where_someone_gave_it_one() -> None:
    module = ACmix(4, 8)
    x = torch.randn(1, 4, 5, 6)
    without = module(x)
    bias = torch.randn(8)
    module.dep_conv.bias = nn.Parameter(bias)

    expected = without + 0.5 * bias[:, None, None]

    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


def test_initial_weights_draw_what_the_published_constructor_draws() -> None:
    torch.manual_seed(9)
    module = ACmix(6, 8)
    after = torch.rand(3)

    torch.manual_seed(9)
    drawn = [nn.Conv2d(i, o, 1) for i, o in ((6, 8), (6, 8), (6, 8), (2, 2))]
    fc = nn.Conv2d(12, 9, 1, bias=False)
    nn.Conv2d(18, 8, 3, groups=2)

    assert torch.equal(module.conv_p.weight, drawn[3].weight)
    assert torch.equal(module.fc.weight, fc.weight)
    assert torch.equal(torch.rand(3), after)
    assert module.dep_conv.weight[5].flatten(1).equal(torch.eye(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": 3}, "out_planes 8 is not divisible by head 3"),
        ({"kernel_att": 4}, "kernel_att must be odd, got 4"),
        ({"kernel_conv": 2}, "kernel_conv must be odd, got 2"),
        ({"stride": 0}, r"stride must be at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        ACmix(8, 8, **options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 8, 3, 9),
            "the map is 3x9, but kernel_att 7 with dilation 1 reflects 3 pixels: sides need 4",
        ),
        ((1, 5, 9, 9), r"x has shape \(1, 5, 9, 9\), expected \(N, 8, H, W\)"),
        ((8, 9, 9), r"x has shape \(8, 9, 9\), expected \(N, 8, H, W\)"),
    ],
)
def test_impossible_maps_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        ACmix(8, 8)(torch.randn(shape))

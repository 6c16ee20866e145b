"""The windows that new modules choose in a picture that their model is given."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError, MissingModuleError, UsageError
from modswap.nn import BiLevelRoutingAttention
from modswap.ops.first_input.from_file import normalised
from modswap.ops.measure import site_routing
from modswap.ops.measure.site_routing import pictured, pixels_of, site_routings
from modswap.ops.run.inputs import DummyCall


def routed(n_win: int = 2) -> BiLevelRoutingAttention:
    return BiLevelRoutingAttention(8, 2, n_win=n_win, topk=2, layout="NCHW", auto_pad=True)


def net(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), *layers)


def given(*shape: int) -> DummyCall:
    return DummyCall((torch.rand(*shape),), {})


def test_windows_are_those_that_the_module_returns_in_pixels_of_the_picture() -> None:
    image = pytest.importorskip("PIL.Image")
    layer, call = routed(), given(2, 3, 8, 16)
    model = net(layer, nn.ReLU())
    before = {name: value.clone() for name, value in model.state_dict().items()}

    (found,) = site_routings(model, ["1", "2"], call)

    with torch.no_grad():
        _, routing = layer(model[0](call.args[0]), return_routing=True)
    assert found.path == "1"
    assert [list(one) for one in found.windows.routes] == routing.indices[0].tolist()
    assert (found.windows.width, found.windows.height) == (16, 8)
    assert list(found.windows.boxes[-1] or ()) == [8, 4, 16, 8]
    assert image.open(BytesIO(found.picture)).size == (16, 8)
    assert model.training
    assert not layer._forward_pre_hooks
    assert not layer.router._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_file_for_the_page_that_is_no_picture_is_refused_and_its_name_is_no_size(
    tmp_path: Path,
) -> None:
    image = pytest.importorskip("PIL.Image")
    (file := tmp_path / "a:b.png").write_text("no picture")

    with pytest.raises(InputError, match="it is no picture") as raised:
        pictured(given(1, 3, 8, 16), file)
    assert raised.value.fix == "give a JPEG or PNG"

    image.new("RGB", (4, 4)).save(file)
    assert pictured(given(1, 3, 8, 16), file).tensors[0].shape == (1, 3, 8, 16)


def test_call_without_a_picture_has_none() -> None:
    model = net(routed())

    assert site_routings(model, ["1"], DummyCall((TensorInput(shape=(1, 3, 8, 8)),), {})) == ()
    assert site_routings(model[1], [], given(1, 3, 8, 8)) == ()
    assert site_routings(net(nn.ReLU()), ["1"], given(1, 3, 8, 8)) == ()
    assert site_routings(model, ["1"], given(1, 8, 8, 3)) == ()


def test_nothing_is_drawn_where_pillow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(where: str) -> object:
        raise MissingModuleError("pictures need pillow", where, "install it")

    monkeypatch.setattr(site_routing, "pillow", missing)

    assert site_routings(net(routed()), ["1"], given(1, 3, 8, 8)) == ()


def test_page_has_room_for_some_sites_and_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL.Image")
    model = net(*(routed() for _ in range(5)))
    paths = [str(number) for number in range(1, 6)]

    assert [one.path for one in site_routings(model, paths, given(1, 3, 8, 8))] == ["1", "2", "3"]
    monkeypatch.setattr(site_routing, "MAX_WINDOWS", 9)
    assert [one.path for one in site_routings(model, paths, given(1, 3, 8, 8))] == ["1", "2"]


def test_picture_takes_the_place_of_the_first_tensor_of_its_kind(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (9, 5), "white").save(tmp_path / "a.png")
    maps = TensorInput(shape=(2, 3, 8, 16))
    call = DummyCall((TensorInput(shape=(2, 7)), maps), {"other": maps})

    shown = pictured(call, tmp_path / "a.png")

    assert shown.args[0] == call.args[0]
    assert shown.args[1].shape == (2, 3, 8, 16)
    assert shown.kwargs == call.kwargs
    assert pixels_of(shown.args[1][0]).min() > 0.99
    assert pictured(call, None) is call
    with pytest.raises(UsageError, match="no picture"):
        pictured(DummyCall((TensorInput(shape=(1, 4, 8, 8)),), {}), tmp_path / "a.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_values_become_the_pixels_that_they_were(channels: int) -> None:
    pixels = torch.rand(channels, 4, 4)

    assert torch.equal(pixels_of(pixels), pixels)
    assert torch.allclose(pixels_of(normalised(pixels[None])[0]), pixels, atol=1e-6)
    assert torch.allclose(pixels_of((pixels * 255).round()), (pixels * 255).round() / 255)
    shown = pixels_of(pixels * 900 - 500)
    assert (shown.min().item(), shown.max().item()) == (0, 1)
    assert pixels_of(torch.full((channels, 2, 2), float("nan"))).max() == 0

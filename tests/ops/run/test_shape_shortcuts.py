"""Shapes of shortcuts equal the shapes of computed outputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from modswap.ops.run.shape_shortcuts import Shortcuts

Call = Callable[[torch.Tensor], torch.Tensor]
CALLS: dict[str, Call] = {
    "batch norm": lambda x: functional.batch_norm(x, torch.zeros(4), torch.ones(4)),
    "batch norm in training": lambda x: functional.batch_norm(x, None, None, training=True),
    "by position": lambda x: functional.batch_norm(x, None, None, None, None, True),
    "batch norm in training with statistics": lambda x: functional.batch_norm(
        x, torch.zeros(4), torch.ones(4), torch.ones(4), torch.zeros(4), training=True
    ),
    "batch norm of other statistics": lambda x: functional.batch_norm(
        x, torch.zeros(4), torch.ones(3), torch.ones(4).double(), torch.zeros(4)
    ),
    "relu": functional.relu,
    "relu in place": lambda x: functional.relu(x, inplace=True),
    "silu": functional.silu,
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "leaky relu of a part": lambda x: functional.leaky_relu(x[..., ::2], 0.1),
    "relu of turned pixels": lambda x: torch.relu(x.transpose(-1, -2)),
    "sigmoid of numbers": lambda x: torch.sigmoid(x.long()),
    "sum": lambda x: x + functional.relu(x),
    "sum with a number": lambda x: 1 + x * 0.5,
    "sum with a row": lambda x: x + torch.zeros(6),
    "sum with another dtype": lambda x: x + x.double(),
    "sum with a number of another kind": lambda x: x.half() + 2j,
    "gated": lambda x: x * torch.sigmoid(x.mean((-1, -2), keepdim=True)),
    "gated by channels": lambda x: x * x.mean((-1, -2), keepdim=True),
    "gated by pixels": lambda x: x + x.amax(1, keepdim=True),
    "gated by a turned map": lambda x: x * torch.relu(x.transpose(-1, -2)),
    "joined": lambda x: torch.cat([x, x, x], 1),
    "joined, of another length": lambda x: torch.cat((x, x[:1]), dim=0),
    "joined, of another dtype": lambda x: torch.cat([x, x.half()], 1),
    "joined, of another size": lambda x: torch.cat([x, x[..., :4]], 1),
    "joined, of another length of rows": lambda x: torch.cat([x, x[..., :4].contiguous()], 1),
    "joined pixels": lambda x: torch.cat([x, x], -1),
    "joined parts": lambda x: torch.cat([x, x[..., ::2], x.transpose(0, 1)], -1),
    "joined behind": lambda x: torch.cat([x, x], 4),
    "joined nothing": lambda x: torch.cat([x[:0], x[:, :0]], 1),
    "joined channel": lambda x: torch.cat([x[:, :1], x], 1),
    "added twice": lambda x: torch.add(x, x, alpha=2),
    "layer norm of pixels": lambda x: functional.layer_norm(x, (6, 6)),
    "layer norm": lambda x: functional.layer_norm(x, (6,), torch.ones(6), torch.zeros(6)),
    "linear": lambda x: functional.linear(x, torch.zeros(3, 6), torch.zeros(3)),
    "linear of one": lambda x: functional.linear(x, torch.zeros(6)),
    "linear of another dtype": lambda x: functional.linear(x, torch.zeros(3, 6).double()),
    "bilinear": lambda x: functional.interpolate(x, scale_factor=0.5, mode="bilinear"),
    "bicubic": lambda x: functional.interpolate(
        x, (5, 7), mode="bicubic", align_corners=True, antialias=True
    ),
    "recomputed": lambda x: functional.interpolate(
        x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True
    ),
    "nearest": lambda x: functional.interpolate(x, scale_factor=2.0),
    "linear upsampling": lambda x: functional.interpolate(x.flatten(2), scale_factor=2.0),
    "modules": lambda x: nn.Upsample(scale_factor=2, mode="bilinear")(
        nn.BatchNorm2d(4).eval()(nn.Conv2d(4, 4, 1)(x))
    ),
}
SHAPES = [(1, 4, 6, 6), (2, 4, 5, 6), (1, 3, 6, 6), (1, 4, 1, 1), (3, 4, 9, 7), (4, 6)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_shape_is_what_is_computed_and_so_is_a_refusal(
    name: str, shape: tuple[int, ...], last: bool
) -> None:
    call = CALLS[name]
    x = torch.randn(shape)
    if last and x.ndim == 4:
        x = x.to(memory_format=torch.channels_last)

    def seen(x: torch.Tensor) -> tuple[tuple[int, ...], torch.dtype, tuple[int, ...]] | str:
        try:
            out = call(x)
        except (RuntimeError, ValueError, IndexError, NotImplementedError):
            return "refused"
        # kernels refuse empty maps, and meta does not always
        return "refused" if 0 in out.shape else (tuple(out.shape), out.dtype, out.stride())

    with torch.device("meta"):
        computed = seen(x.to("meta"))
        with Shortcuts():
            told = seen(x.to("meta"))

    assert told == computed


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 4), (3, 0, 4), (5, 4), (3, 5, 6)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True, "bidirectional": True, "num_layers": 2}, {"nonlinearity": "relu"}],
    ids=str,
)
def test_recurrent_layer_returns_the_shapes_that_it_computes(
    layer: Callable[..., nn.Module], shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    if "nonlinearity" in options and layer is not nn.RNN:
        return
    with torch.device("meta"):
        module = layer(4, 3, **options)
        x = torch.randn(shape)

        def seen() -> Any:
            try:
                out = module(x)
            except (RuntimeError, ValueError):
                return "refused"
            return [(t.shape, t.dtype, t.stride()) for t in tree_leaves(out)]

        computed = seen()
        with Shortcuts():
            assert seen() == computed


def test_packed_sequence_and_projection_go_their_own_way() -> None:
    with torch.device("meta"), Shortcuts():
        projected, (hidden, cell) = nn.LSTM(4, 3, proj_size=2, bidirectional=True)(
            torch.randn(5, 2, 4)
        )
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 2, 4), torch.tensor([5, 3]))
    module = nn.GRU(4, 3)
    with Shortcuts():
        output, _ = module(packed)

    assert [tuple(t.shape) for t in (projected, hidden, cell)] == [(5, 2, 4), (2, 2, 2), (2, 2, 3)]
    torch.testing.assert_close(output.data, module(packed)[0].data)

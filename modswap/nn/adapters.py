"""The adapter between a site and a new module of another layout, other inputs or output."""

from math import isqrt
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.decided.blueprint import Adaptation
from modswap.core.seen.site import Grid, Layout
from modswap.nn.fit.inputs import is_request
from modswap.nn.kernels.maps import order_of
from modswap.nn.kernels.tracing import traced

TO_NCHW = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}
FROM_NCHW = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}


class SiteAdapter(nn.Module):
    """Convert a site's map to the layout of a new module, and its output to the site's.

    Shape:
        Input as the site's `layout`: (N, C, H, W), (N, H, W, C) or (N, L, C) with L = H x W; the
        first tensor among the inputs. The output has the same form, with other channels and sizes
        if `adaptation` says so. Same dtype and device.

    Args:
        module: The new module. layout: Layout of the site's map; None: not converted. wants: Layout
        of the module's input and output; None: not converted. ignores: Names, or positions as text,
        of inputs that the module does not take. adaptation: A projection, pooling or tuple around
        the output. repeats: Names, or positions as text, of inputs that are the same tensor object
        as the map, as key and value of self-attention are; the module does not take them.

    Raises:
        ValueError: If only one of `layout` and `wants` is None; in the forward pass, if tokens make
            no map, an ignored input carries a value, or a repeated input is another tensor.
    """

    repeats: tuple[str, ...] = ()  # adapters pickled by earlier versions lack these
    grid: Grid | None = None
    drops: tuple[str, ...] = ()

    def __init__(
        self,
        module: nn.Module,
        *,
        layout: Layout | None,
        wants: Layout | None,
        ignores: tuple[str, ...] = (),
        adaptation: Adaptation | None = None,
        repeats: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        if (layout is None) != (wants is None):
            raise ValueError(f"layout is {layout!r}, wants is {wants!r}: give both or none")
        added = adaptation or Adaptation(0, 0)
        self.module = module
        self.layout = layout
        self.wants = wants
        self.ignores = ignores
        self.repeats = repeats
        # plain values, so that a file can hold the adapter without further classes
        self.stride = added.stride
        self.length = added.length if added.container else 0
        self.project: nn.Conv2d | None = None
        if added.in_channels != added.out_channels:
            self.project = nn.Conv2d(added.in_channels, added.out_channels, 1)

    def of_grid(self, grid: Grid | None) -> "SiteAdapter":
        """Take tokens as a map of this height and width alone; return the adapter itself.

        Without a grid the size is given beside the tokens, or they are a square.
        """
        if grid is not None:
            self.grid = grid
        return self

    def without(self, drops: tuple[str, ...]) -> "SiteAdapter":
        """Pass on no inputs of these names, or positions as text; return the adapter itself."""
        if drops:
            self.drops = drops
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the site's output: a tensor, or a tuple of a tensor and None."""
        named = {**{str(position): value for position, value in enumerate(args)}, **kwargs}
        named = {name: value for name, value in named.items() if name not in self.drops}
        given = [name for name, value in named.items() if isinstance(value, torch.Tensor)]
        carrier = next((name for name in given if name not in self.repeats), None)
        if carrier is None:
            raise ValueError(f"expected a tensor among {len(named)} inputs, got none")
        x: torch.Tensor = named[carrier]
        size = self._size(x, [value for name, value in named.items() if name != carrier])
        passed = self._without_ignored(self._without_repeats(named, carrier))
        passed[carrier] = self._converted(x, size)
        # the map is the first positional input: its keyword is the old module's
        first = passed.pop(carrier)
        others = [passed.pop(str(i)) for i in range(len(args)) if str(i) in passed]
        output = self.module(first, *others, **passed)
        if isinstance(output, tuple):
            return (self._restored(output[0], x, size), *output[1:])
        y = self._restored(output, x, size)
        return (y, *[None] * (self.length - 1)) if self.length else y

    def _size(self, x: torch.Tensor, others: list[Any]) -> tuple[int, int]:
        """Return height and width of the map."""
        if self.layout == "NCHW":
            return x.shape[2], x.shape[3]
        if self.layout == "NHWC":
            return x.shape[1], x.shape[2]
        if self.layout is None or (self.wants == "NLC" and self.stride == (1, 1)):
            return x.shape[1] if x.ndim > 1 else 1, 1  # tokens stay a row
        tokens = x.shape[1]
        if self.grid is not None:
            return _as_ruled(tokens, self.grid)
        numbers = [number for value in others for number in _numbers(value)]
        if len(numbers) >= 2 and numbers[0] * numbers[1] == tokens:
            return numbers[0], numbers[1]
        return _square(tokens)

    def _without_repeats(self, named: dict[str, Any], carrier: str) -> dict[str, Any]:
        for name in self.repeats:
            value = named.get(name)
            if value is named[carrier]:
                continue
            which = f"input {name}" if name.isdigit() else repr(name)
            first = f"input {carrier}" if carrier.isdigit() else repr(carrier)
            what = "is another tensor" if isinstance(value, torch.Tensor) else f"is {value!r:.40}"
            raise ValueError(
                f"{which} must be the same tensor as {first}, as in self-attention, and {what}"
            )
        return {name: value for name, value in named.items() if name not in self.repeats}

    def _without_ignored(self, named: dict[str, Any]) -> dict[str, Any]:
        for name in self.ignores:
            value = named.get(name)
            flag = value is None or value is False or (value is True and is_request(name))
            if not flag and not _numbers(value):
                which = f"input {name}" if name.isdigit() else repr(name)
                kind = type(value).__name__
                raise ValueError(f"{which} is not used here and must be None, got a {kind}")
        return {name: value for name, value in named.items() if name not in self.ignores}

    def _converted(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return a map of the site's layout in the module's layout."""
        if self.layout is None or self.wants is None or self.layout == self.wants:
            return x
        return _from_nchw(_to_nchw(x, self.layout, size), self.wants).contiguous()

    def _restored(self, y: torch.Tensor, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return the module's output in the site's layout, in the memory format of `x`."""
        changed = self.project is not None or self.stride != (1, 1)
        if self.layout is None or self.wants is None or (self.layout == self.wants and not changed):
            return y
        if self.wants == "NLC" and y.shape[1] != size[0] * size[1]:
            size = (y.shape[1], 1) if self.layout == "NLC" else _square(y.shape[1])
        y = _to_nchw(y, self.wants, size)
        if self.stride != (1, 1):
            # rounded up, as a strided convolution with padding does
            y = F.avg_pool2d(y, self.stride, ceil_mode=True)
        if self.project is not None:
            y = self.project(y)
        y = _from_nchw(y, self.layout)
        if y.ndim == 4 and x.ndim == 4:
            return y.contiguous(memory_format=order_of(x))
        return y.contiguous()

    def extra_repr(self) -> str:
        """Return the arguments that the submodules do not show."""
        parts = [f"layout={self.layout!r}, wants={self.wants!r}"]
        parts += [f"ignores={self.ignores}"] if self.ignores else []
        parts += [f"repeats={self.repeats}"] if self.repeats else []
        parts += [f"drops={self.drops}"] if self.drops else []
        parts += [f"grid={self.grid}"] if self.grid else []
        parts += [f"stride={self.stride}"] if self.stride != (1, 1) else []
        parts += [f"length={self.length}"] if self.length else []
        return ", ".join(parts)


def _to_nchw(x: torch.Tensor, layout: Layout, size: tuple[int, int]) -> torch.Tensor:
    if layout == "NLC":
        return x.reshape(x.shape[0], *size, x.shape[2]).permute(TO_NCHW["NHWC"])  # (N, C, H, W)
    return x.permute(TO_NCHW[layout])


def _from_nchw(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    if layout == "NLC":
        return x.flatten(2).transpose(1, 2)  # (N, L, C)
    return x.permute(FROM_NCHW[layout])


def _numbers(value: Any) -> list[int]:
    """Return a whole number, or the two whole numbers of a pair, as a list."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if isinstance(value, torch.SymInt) or _is_traced_size(value):
        return [value]
    if isinstance(value, (tuple, list)) and len(value) == 2:
        inner = [number for item in value for number in _numbers(item)]
        return inner if len(inner) == 2 else []
    return []


def _is_traced_size(value: Any) -> bool:
    """Return whether a value is a number to a model that `torch.jit.trace` runs."""
    return traced() and isinstance(value, torch.Tensor) and value.ndim == 0


def _root(size: Any) -> Any:
    """Return the whole part of a square root, in a form that a graph can record."""
    # torch cannot export a size's square root to ONNX: a number there, for this number of tokens
    if isinstance(size, torch.SymInt) and not torch.onnx.is_in_onnx_export():
        return torch.sym_int(torch.sym_sqrt(size))
    if isinstance(size, torch.Tensor):
        return size.double().sqrt().long()
    return isqrt(size)


def _as_ruled(tokens: int, grid: Grid) -> Grid:
    if tokens != grid[0] * grid[1]:
        raise ValueError(f"{tokens} tokens are no map of {grid[0]}x{grid[1]}")
    return grid


def _square(tokens: int) -> tuple[int, int]:
    side = _root(tokens)
    if side**2 != tokens:
        raise ValueError(f"{tokens} tokens are no square, and no height and width are given")
    return side, side

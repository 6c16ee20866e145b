"""The sizes of a site, by the usual names of constructor arguments."""

import inspect
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from modswap.core.decided.blueprint import Choice
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Site, extent
from modswap.core.seen.values import TensorInfo
from modswap.nn.catalogue.row import AUTO
from modswap.nn.fit.inputs import first_map, read_layout, tensor_inputs, token_grid
from modswap.nn.fit.outputs import map_given

CHANNELS = frozenset(
    {
        *("dim", "dims", "channel", "channels", "in_channel", "in_channels", "inchannels"),
        *("in_planes", "inplanes", "in_chans", "in_chs", "in_ch", "ch_in", "in_dim"),
        *("input_dim", "dim_in", "d_in", "c1", "c_in", "cin", "inp", "in_c", "ch", "c"),
        *("num_channels", "n_channels", "num_features", "n_feat", "n_feats", "num_feat", "nf"),
        *("in_features", "embed_dim", "embed_dims", "emb_dim"),
        *("embedding_dim", "hidden_size", "d_model", "model_dim", "n_embd"),
        *("embed_channels", "input_channels", "input_channel", "gate_channels"),
    }
)
OUT_CHANNELS = frozenset(
    {
        *("out_channel", "out_channels", "outchannels", "out_planes", "outplanes", "out_chans"),
        *("out_chs", "out_ch", "ch_out", "out_dim", "output_dim", "dim_out", "d_out", "c2"),
        *("c_out", "cout", "oup", "outp", "out_c", "out_features", "output_channels"),
    }
)
HEIGHT, WIDTH = frozenset({"height", "H"}), frozenset({"width", "W"})
TOKENS = frozenset(
    {
        *("seq_len", "seq_length", "sequence_length", "seqlen", "num_tokens", "n_tokens"),
        *("num_patches", "n_patches"),
    }
)
PAIRS = frozenset({"input_resolution", "spatial_size", "map_size", "fmap_size"})
# a whole number where the map is square, unless the default or the annotation says otherwise
SIDES = frozenset({"resolution", "img_size", "image_size", "feat_size"})
SIZES = HEIGHT | WIDTH | TOKENS | PAIRS | SIDES
OBSERVED = CHANNELS | OUT_CHANNELS | SIZES
LEAST = 16  # a smaller default is hardly a number of channels
FIXED = "the module is fixed to this size"


@dataclass(frozen=True, slots=True)
class Observed:
    """The sizes of a site, as arguments of a class.

    Args:
        site: The site.
        cls: The class.
        reference: Its name in the recipe, for errors.
    """

    site: Site
    cls: type[nn.Module]
    reference: str

    def choice(self, name: str) -> Choice:
        """Return the observed value of an argument.

        Raises:
            ShapeError: If the site has no single value for it.
        """
        if name in CHANNELS:
            channels = self._channels()
            return Choice(name, channels, f"{channels} channels observed")
        if name in OUT_CHANNELS:
            channels = self._out_channels()
            return Choice(name, channels, f"{channels} output channels observed")
        if name in TOKENS:
            tokens = self._tokens(name)
            return Choice(name, tokens, f"{tokens} tokens observed; {FIXED}", fixes=True)
        height, width = self._size(name)
        value = height if name in HEIGHT else width if name in WIDTH else None
        if value is None:
            value = self._pair(name, height, width)
        return Choice(name, value, f"{height}x{width} observed; {FIXED}", fixes=True)

    def defaults(self, given: Container[str]) -> Iterator[Choice]:
        """Yield the observed values of arguments that are not given and have another default."""
        for name, parameter in parameters(self.cls).items():
            if parameter.default is parameter.empty or name in given:
                continue
            seen = self._seen(name)
            if seen is not None and seen.value != parameter.default:
                reason = f"{seen.reason}; its default is {parameter.default!r:.40}"
                yield replace(seen, reason=reason, replaces=True)

    def doubtful(self, given: Mapping[str, Any], error: str) -> list[Choice]:
        """Return arguments that may be the cause of an error, with values that may be the cure.

        These are given arguments of usual names and other values, and arguments of other names with
        a default that is a number in the error.
        """
        return [*self._mistaken(given), *self._unusual(given, error)]

    def _mistaken(self, given: Mapping[str, Any]) -> Iterator[Choice]:
        """Yield given arguments of usual names whose values are not the site's."""
        for name, value in given.items():
            seen = self._seen(name)
            if seen is not None and isinstance(value, int) and seen.value != value:
                yield Choice(name, AUTO, f"{seen.reason}; the rule says {value!r:.40}")

    def _unusual(self, given: Mapping[str, Any], error: str) -> Iterator[Choice]:
        """Yield arguments of other names whose default is a number in an error."""
        channels = self._seen("channels")
        if channels is None:
            return
        for name, parameter in parameters(self.cls).items():
            default = parameter.default
            plain = type(default) is int and default >= LEAST and name not in {*given, *OBSERVED}
            # the value that it has already is no cure
            if plain and default != channels.value and re.search(rf"\b{default}\b", error):
                reason = f"its default is {default}, {channels.reason}"
                yield Choice(name, channels.value, reason)

    def _seen(self, name: str) -> Choice | None:
        """Return the observed value of an argument; None if its name or the site has none."""
        try:
            return self.choice(name) if name in OBSERVED else None
        except ShapeError:
            return None

    def _channels(self) -> int:
        maps = tensor_inputs(self.site)
        if issubclass(self.cls, nn.Linear) and self.site.layout != "NCHW":
            return maps[0].shape[-1]  # of any number of axes
        if all(len(tensor.shape) == 2 for tensor in maps):
            return maps[0].shape[1]
        if row := self._row_channels(maps[0]):
            return row
        _, sizes = read_layout(self.site, maps)
        return sizes[0].channels

    def _out_channels(self) -> int:
        tensor, _ = map_given(self.site.calls[0].output)
        flat = issubclass(self.cls, nn.Linear) and self.site.layout != "NCHW"
        if tensor is not None and (flat or len(tensor.shape) == 2):
            return tensor.shape[-1]
        if row := self._row_channels(tensor):
            return row
        layout, _ = read_layout(self.site, tensor_inputs(self.site))
        seen = extent(tensor.shape, layout) if tensor is not None else None
        if seen is None:
            what = f"its output {self.site.calls[0].output} is no map, so its channels are unknown"
            raise ShapeError(what, self.site.path, "set them under `args`")
        return seen.channels

    def _row_channels(self, tensor: TensorInfo | None) -> int:
        """Return the channels of a row in a layout that no rule can say; 0 for other tensors."""
        other = self.site.other_layout if self.site.layout is None else ""
        if tensor is None or len(tensor.shape) != len(other):
            return 0
        return tensor.shape[other.index("C")]

    def _tokens(self, name: str) -> int:
        _, sizes = read_layout(self.site, tensor_inputs(self.site))
        seen = {size.tokens for size in sizes}
        if len(seen) > 1:
            raise self._several(name)
        return seen.pop()

    def _size(self, name: str) -> tuple[int, int]:
        _, sizes = read_layout(self.site, tensor_inputs(self.site))
        pairs = zip(self.site.calls, sizes, strict=True)
        seen = set()
        for call, size in pairs:
            known = size.height is not None and size.width is not None
            seen.add(
                (size.height, size.width) if known else token_grid(self.site, call, size.tokens)
            )
        height, width = next(iter(seen))
        if len(seen) > 1 or height is None or width is None:
            raise self._several(name)
        return height, width

    def _several(self, name: str) -> ShapeError:
        shown = ", ".join(str(first_map(self.site, call)[1]) for call in self.site.calls)
        what = f"{self.reference} needs {name!r}, and the site has no single one: {shown}"
        return ShapeError(what, self.site.path, f"set `{name}` under `args`")

    def _pair(self, name: str, height: int, width: int) -> Any:
        """Return both sides, or a single whole number for a square, as the argument takes them."""
        parameter = parameters(self.cls).get(name)
        default = None if parameter is None else parameter.default
        single = isinstance(default, int) or (parameter and parameter.annotation is int)
        pair = isinstance(default, tuple | list) or name in PAIRS
        return height if height == width and (single or not pair) else [height, width]


def parameters(cls: type[nn.Module]) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a constructor, those of `nn.Module` itself left out."""
    return {} if cls.__init__ is nn.Module.__init__ else inspect.signature(cls).parameters

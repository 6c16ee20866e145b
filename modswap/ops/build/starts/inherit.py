"""Find out what a new module can inherit from an old one, and give it that."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.core.seen.site import Site, extent
from modswap.nn.acmix import ACmix
from modswap.nn.adapters import SiteAdapter
from modswap.nn.cbam import CBAM
from modswap.nn.conv_gate import ConvGate
from modswap.nn.coordinate_attention import CoordinateAttention
from modswap.nn.eca import ECA
from modswap.nn.inherit.attention_form import Reading
from modswap.nn.inherit.attention_rows import (
    ATTENTION_ROWS,
    AttentionRow,
    Given,
    UnfitFormError,
)
from modswap.nn.inherit.computed_weights import computed_weights, make_plain, plain_values
from modswap.nn.inherit.convolution import (
    ConvReading,
    convolution_of,
    give_gate,
    give_mixed,
    mixed_arguments,
    read_convolution,
)
from modswap.nn.inherit.respelling import (
    Assignment,
    assignments,
    hidden_channels,
    neutral_tensors,
    same_layers,
    tensors_of,
)
from modswap.nn.scse import SCSE
from modswap.nn.se_block import SEBlock
from modswap.ops.build.starts.attention import read_attention
from modswap.ops.build.starts.trial import agree, first_trial, output_of
from modswap.ops.run.describe import one_line
from modswap.ops.run.random_weights import copied
from modswap.seeds import seeded

SHOWN_TENSORS = 8
_SEED = 0  # of the random weights with which modules are compared
_CONVOLUTIONS = (ACmix, ConvGate)
# how many times narrower a hidden layer is, by the option's name
_NARROWED: Mapping[type[nn.Module], str] = {
    CBAM: "reduction_ratio",
    CoordinateAttention: "reduction",
    SCSE: "reduction",
    SEBlock: "reduction",
}


@dataclass(slots=True)
class Heir:
    """The old module of a site as a new one can inherit from it."""

    old: nn.Module
    site: Site
    around: Mapping[int, torch.Tensor]  # stand-ins for the tensors of the model around it
    computed: Mapping[str, str] = field(init=False)  # its weights that it computes, and by what
    form: nn.Module = field(init=False)  # itself, or a copy with plain weights in their place
    arguments: dict[str, Any] = field(default_factory=dict)  # of the new module, by the old one
    attention: Reading | None = None
    convolution: ConvReading | None = None

    def __post_init__(self) -> None:
        """Find the weights that the old module computes before each pass."""
        self.computed, self.form = computed_weights(self.old), self.old
        if self.computed:
            try:
                self.form = copied(self.old, self.around)
                make_plain(self.form)
            except Exception as error:  # the code of a user's parametrization may fail in any way
                raise self._not_computed(error) from error

    def give(self, module: nn.Module, state: Mapping[str, torch.Tensor]) -> Given:
        """Return the values of a new module, by the values of the old one.

        Raises:
            ShapeError: If there is nothing that it could inherit.
        """
        inner = _inner(module)
        try:
            given = self._plainly_given(inner, module, state)
            self._check(given, inner)
        except UnfitFormError as error:
            raise self.nothing(inner, str(error)) from None
        if inner is not module:
            given.values = {f"module.{name}": value for name, value in given.values.items()}
            given.sources = {f"module.{name}": value for name, value in given.sources.items()}
        return given

    def _plainly_given(
        self, inner: nn.Module, module: nn.Module, state: Mapping[str, torch.Tensor]
    ) -> Given:
        """Return what a module is given, by the values of weights that the old one computes."""
        if not self.computed or same_layers(_inner(self.old), inner):
            return self._given(self.old, inner, module, state)
        given = self._given(self.form, inner, module, self._plain_state(state))
        shown = [f"{name} ({kind})" for name, kind in self.computed.items()]
        given.notes.append(f"inherited as the old module computes it: {', '.join(shown)}")
        return given

    def _plain_state(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Return the tensors of the old module's plain form."""
        if any(tensor.is_meta for tensor in state.values()):
            plain = tensors_of(self.form).items()
            return {name: torch.empty_like(tensor, device="meta") for name, tensor in plain}
        try:
            return plain_values(self.old, state)
        except Exception as error:  # as above
            raise self._not_computed(error) from error

    def _not_computed(self, error: Exception) -> ShapeError:
        names = ", ".join(self.computed)
        what = f"there is nothing to inherit: {names} cannot be computed: {one_line(error)}"
        fix = "leave `start: inherit` out"
        return ShapeError(what, self.site.path, fix, settings=(("start", "fresh"),))

    def _given(
        self,
        source: nn.Module,
        inner: nn.Module,
        module: nn.Module,
        state: Mapping[str, torch.Tensor],
    ) -> Given:
        old = _inner(source)
        start = "" if old is source else "module."
        state = {name.removeprefix(start): tensor for name, tensor in state.items()}
        if same_layers(old, inner):
            return Given(dict(state), {name: name for name in state})
        row = ATTENTION_ROWS.get(type(inner))
        if self.attention is not None and row is not None:
            given = row.give(self.attention.taken(state), inner)
            given.notes = [*self.attention.notes, *given.notes]
            return given
        if self.convolution is not None and isinstance(inner, _CONVOLUTIONS):
            return self._convolved(old, self.convolution, inner, state)
        return self._respelled(module, inner, state)

    def _convolved(
        self,
        old: nn.Module,
        reading: ConvReading,
        inner: ACmix | ConvGate,
        state: Mapping[str, torch.Tensor],
    ) -> Given:
        if isinstance(inner, ConvGate):
            given = give_gate(reading, inner, state)
        else:
            names = [f"{reading.conv}.{n}".lstrip(".") for n in ("weight", "bias")]
            if reading.norm is not None:
                names = [f"{names[0]}, {reading.norm}", f"{names[1]}, {reading.norm}"]
            elif names[1] not in state:
                names[1] = "zeros"
            form = convolution_of(old, reading, state)
            given = give_mixed(form, inner, (names[0], names[1]))
        given.notes = [*reading.notes, *given.notes]
        return given

    def _respelled(
        self, module: nn.Module, inner: nn.Module, state: Mapping[str, torch.Tensor]
    ) -> Given:
        """Return the values of another spelling of the old module, shown by a run of both."""
        own = tensors_of(inner)
        found, left = self._shown(module, own)
        if found is None:
            raise UnfitFormError("no order of the weights makes it compute the same")
        given = Given(found.values(state, own), dict(found.sources))
        rest = [name for name in own if name not in found.sources]
        for name, value in neutral_tensors(inner, rest).items():
            given.put(name, value, "identity")
        if left:
            given.notes.append(f"of the old module {', '.join(left)} has no place in the new one")
        return given

    def _shown(
        self, module: nn.Module, own: Mapping[str, torch.Tensor]
    ) -> tuple[Assignment | None, list[str]]:
        """Return the first assignment with which both modules compute the same.

        Biases of the old module that have no place in the new one are zero in that run.
        """
        if not self.site.calls:
            return None, []
        with seeded(_SEED):
            old, new = self.copy(), copied(module, self.around).float()
            inside, fresh = _inner(old), _inner(new)
            before, blank = (
                {n: t.clone() for n, t in tensors_of(one).items()} for one in (inside, fresh)
            )
            trial = first_trial(old, self.site.calls[0])
            if trial is None:
                return None, []
            for one in _whole(before, own):
                left = one.left(before)
                inside.load_state_dict({**before, **neutral_tensors(inside, left)})
                rest = [n for n in own if n not in one.sources]
                given = {**one.values(before, own), **neutral_tensors(fresh, rest)}
                fresh.load_state_dict({**blank, **given})
                if agree(output_of(old, trial.inputs), output_of(new, trial.inputs)):
                    return one, left
        return None, []

    def copy(self) -> nn.Module:
        """Return the old module with random weights in single precision."""
        return copied(self.form, self.around).float()

    def _check(self, given: Given, inner: nn.Module) -> None:
        """Refuse values of other shapes than the new module has."""
        own = tensors_of(inner)
        for name, value in given.values.items():
            if name not in own:
                raise UnfitFormError(f"the new module has no {name}")
            shapes = [[size for size in t.shape if size != 1] for t in (value, own[name])]
            if shapes[0] != shapes[1]:  # a linear map may be a layer or a 1x1 convolution
                what = f"{name} is {tuple(own[name].shape)}, the old module gives"
                raise UnfitFormError(f"{what} {tuple(value.shape)}")
            given.values[name] = value.reshape(own[name].shape)

    def nothing(self, new: nn.Module, why: str = "") -> ShapeError:
        """Return the error where there is nothing to inherit; it lists the tensors of both."""
        kind = f"{self.site.short_class} has {_listed(self.form)}"
        what = f"there is nothing to inherit: {kind}; {type(new).__name__} has {_listed(new)}"
        if why:
            what = f"{what}; {why}"
        fix = "leave `start: inherit` out, or choose a module that holds the same layers"
        return ShapeError(what, self.site.path, fix, settings=(("start", "fresh"),))


def _whole(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]
) -> Iterator[Assignment]:
    """Yield the assignments that give each weight of two axes or more a value."""
    weights = {name for name, tensor in new.items() if tensor.ndim > 1}
    yield from (one for one in assignments(old, new) if weights <= one.sources.keys())


def _listed(module: nn.Module) -> str:
    named = [f"{n} {tuple(t.shape)}" for n, t in tensors_of(module).items() if t.ndim]
    shown = ", ".join(named[:SHOWN_TENSORS]) or "no weights"
    return shown + (f" and {len(named) - SHOWN_TENSORS} more" if len(named) > SHOWN_TENSORS else "")


def _inner(module: nn.Module) -> nn.Module:
    return module.module if isinstance(module, SiteAdapter) else module


def heir_of(
    old: nn.Module, site: Site, row: Callable[..., nn.Module] | None, around: dict[int, Any]
) -> Heir:
    """Return the old module of a site as a module of the class `row` can inherit from it."""
    heir = Heir(old, site, around)
    inner, channels = _inner(heir.form), _channels(site)
    if row in ATTENTION_ROWS and channels:
        _read_attention(heir, ATTENTION_ROWS[row], inner, channels)  # type: ignore[index] # a class of the table
    elif row in _CONVOLUTIONS:
        heir.convolution = read_convolution(inner)
        if heir.convolution is not None and row is ACmix:
            layer = heir.convolution.layer
            heir.arguments = dict(mixed_arguments(layer))
    elif row in _NARROWED or row is ECA:
        heir.arguments = _gate_arguments(inner, row, channels)
    return heir


def _read_attention(heir: Heir, row: AttentionRow, inner: nn.Module, channels: int) -> None:
    """Read attention in an old module, and set the arguments that follow from it."""
    try:
        with seeded(_SEED):
            copy = heir.copy()
            found = read_attention(inner, copy, _inner(copy), heir.site.calls, channels)
    except Exception as error:  # the old module's own code may raise anything
        raise heir.nothing(inner, f"it cannot be run alone: {one_line(error)}") from error
    if found is not None:
        heir.attention = found
        heir.arguments = row.arguments(found, channels, _width(found, inner))


def _width(reading: Reading, module: nn.Module) -> int:
    state = {n: torch.empty_like(t, device="meta") for n, t in tensors_of(module).items()}
    return int(reading.taken(state).weights["q.weight"].shape[0])


def _channels(site: Site) -> int:
    seen = site.input
    if seen is None or site.layout is None:
        return seen.shape[-1] if seen is not None and len(seen.shape) == 3 else 0
    size = extent(seen.shape, site.layout)
    return size.channels if size is not None else 0


def _gate_arguments(module: nn.Module, row: Any, channels: int) -> dict[str, Any]:
    """Return the arguments of a gate with a hidden layer as wide as the old one's."""
    if row is ECA:
        convs = [one for one in module.modules() if isinstance(one, nn.Conv1d)]
        return {"k_size": convs[0].kernel_size[0]} if len(convs) == 1 else {}
    hidden = hidden_channels(module, channels)
    if not hidden:
        return {}
    found: dict[str, Any] = {_NARROWED[row]: max(1, channels // hidden)}
    if row is SEBlock:
        found["bias"] = any(name.endswith("bias") for name in tensors_of(module))
    if row is CBAM:
        spatial = [o for o in module.modules() if isinstance(o, nn.Conv2d) and o.in_channels == 2]
        found["no_spatial"] = not spatial
    return found

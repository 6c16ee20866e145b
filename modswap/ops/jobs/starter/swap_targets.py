"""Modules that a user is likely to want replaced, in kinds, the likely ones first."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from torch import nn

from modswap.core.seen.site import Site
from modswap.core.seen.values import NONE, Group, TensorInfo, difference
from modswap.live_values import module_paths

# words of the names and classes of modules
ATTENTIONS = frozenset(
    ("attention", "attn", "att", "mhsa", "mhca", "msa", "sa", "psa", "bra", "mixer", "lka", "token")
) | frozenset(("mla", "gsa", "lsa", "wsa", "xca", "mdta", "sdta", "modulation", "aifi"))
GATES = frozenset(
    ("gate", "se", "ca", "cbam", "scse", "cse", "sse", "eca", "ema", "gam", "squeeze", "excite")
)
UNFIT = frozenset(
    ("norm", "act", "activation", "relu", "prelu", "gelu", "silu", "drop", "dropout", "pad", "pos")
) | frozenset(("position", "embed", "embedding", "embeddings", "scale", "rope", "rotary"))
# files of torch.nn whose modules no attention can stand for
UNFIT_FILES = frozenset(
    ("batchnorm", "normalization", "instancenorm", "activation", "dropout", "pooling", "padding")
) | frozenset(("upsampling", "sparse", "flatten", "pixelshuffle", "fold", "channelshuffle", "rnn"))
BLOCKS = ("Block", "Layer", "Stage", "Bottleneck", "Net", "Encoder", "Decoder", "Model")
MAX_SHARE = 0.25  # of a model's parameters in sites that no name shows to be an attention
MIN_KERNEL = 3  # of a convolution that mixes neighbours

MIN_AREA = 16  # pixels of a map on which an attention has something to do
LAST = 1 << 62
_LINEAR = "torch.nn.modules.linear.Linear"

INNERMOST, AROUND, CONVOLUTION, OTHER = range(4)  # the tiers


@dataclass(frozen=True, slots=True)
class Kind:
    """Sites of one kind, which a rule could select together."""

    sites: tuple[Site, ...]
    # 0: its name or class shows an attention or a gate, and it holds no other; 1: it holds others;
    # 2: a convolution; 3: any other module
    tier: int
    rank: int  # within a tier, the best is 0
    adapt: bool  # whether the output of a site differs from its input

    @property
    def order(self) -> tuple[bool, bool, int, bool, int, int, int]:
        """Return the key by which kinds are sorted: of convolutions those of small maps first.

        A linear layer, which is a part of something else, is the last resort.
        """
        linear = self.sites[0].class_name == _LINEAR
        # a gate that changes its shape is half of one: of channels alone, or of places
        shaped = self.adapt and (self.tier >= CONVOLUTION or self.rank > 0)
        return (linear, shaped, self.tier, self.adapt, self.rank, self._area, -len(self.sites))

    @property
    def _area(self) -> int:
        """Return the pixels of a convolution's map, a very small map as the largest; else 0."""
        seen = self.sites[0].input
        if self.tier != CONVOLUTION or seen is None:
            return 0
        area = prod(seen.shape[2:])
        return area if area >= MIN_AREA else LAST


def kinds_of(model: nn.Module, sites: Sequence[Site]) -> list[Kind]:
    """Return the kinds of modules that could be replaced, the likely ones first."""
    census = _Census(model, sites)
    groups: dict[tuple[int, int, bool, tuple[object, ...]], list[Site]] = {}
    for site in census.sites:
        tier = census.tier(site)
        if tier is not None:
            key = (tier, census.rank(site, tier), _changes(site), census.key(site, tier))
            groups.setdefault(key, []).append(site)
    kinds = [Kind(tuple(found), *key[:3]) for key, found in groups.items()]
    return sorted(kinds, key=lambda kind: kind.order)


@dataclass
class _Census:
    """The replaceable sites of a model, and those among them that look like an attention."""

    model: nn.Module
    every: Sequence[Site]
    modules: dict[str, nn.Module] = field(init=False)  # by path; names may contain dots
    tied: set[int] = field(init=False)  # ids of parameters that several modules hold
    sites: list[Site] = field(init=False)
    likely: dict[str, int] = field(init=False)  # rank by path
    outer: set[str] = field(init=False)  # paths of modules that hold a likely one

    def __post_init__(self) -> None:
        self.total = sum(parameter.numel() for parameter in self.model.parameters())
        self.modules = {place.path: place.module for place in module_paths(self.model)}
        modules = [*self.model.modules()]
        held = [id(tensor) for one in modules for tensor in one.parameters(recurse=False)]
        self.tied = {one for one, times in Counter(held).items() if times > 1}
        self.sites = [site for site in self.every if self._replaceable(site)]
        ranks = {site.path: self._likeness(site) for site in self.sites}
        self.likely = {path: rank for path, rank in ranks.items() if rank is not None}
        self.outer = {above for path in self.likely for above in _above(path)}

    def _replaceable(self, site: Site) -> bool:
        seen, output = site.input, site.output
        if seen is None or site.layout is None or site.params == 0:
            return False
        module = self.modules[site.path]
        *_, file, _ = ("", *site.class_name.split("."))
        if any(id(tensor) in self.tied for tensor in module.parameters(recurse=False)):
            return False  # such as a head with the weights of the embedding
        unfit = _is_torch(site) and file in UNFIT_FILES and not _is_attention(module)
        if unfit or UNFIT & _words(site.short_class):
            return False
        if isinstance(output, Group) and output.items:  # an attention gives its weights as well
            first, *others = output.items
            return difference(seen, first) is None and all(one == NONE for one in others)
        return isinstance(output, TensorInfo) and _changes_alike(seen, output)

    def _likeness(self, site: Site) -> int | None:
        """Return the rank of a site that looks like an attention or a gate; None for others."""
        module = self.modules[site.path]
        if _is_attention(module):
            return 0
        if _is_torch(site) and next(module.children(), None) is None:
            return None  # a layer inside
        name = self._name(site)
        words = _words(name)
        if not words & (ATTENTIONS | GATES):
            words = _words(site.short_class)
            if site.short_class.endswith(BLOCKS) and _holds_norm(module) and not name:
                return None  # a block around an attention, an item of a list
        return 0 if words & ATTENTIONS else 1 if words & GATES else None

    def _name(self, site: Site) -> str:
        """Return the last segment of a path; of an item of a list, that of the list."""
        above, _, last = site.path.rpartition(".")
        if not last.isdigit() or not above:
            return "" if last.isdigit() else last
        is_list = isinstance(self.modules.get(above), nn.ModuleList)
        name = above.rpartition(".")[2]
        return (
            name.removesuffix("s")
            if is_list and _words(name.removesuffix("s")) & ATTENTIONS
            else ""
        )

    def tier(self, site: Site) -> int | None:
        """Return the tier of a site; None for one that is not proposed."""
        if site.path in self.likely:
            return AROUND if site.path in self.outer else INNERMOST
        if site.path in self.outer or any(above in self.likely for above in _above(site.path)):
            return None
        if isinstance(self.modules[site.path], nn.Conv2d):
            return CONVOLUTION
        return OTHER if site.params <= MAX_SHARE * self.total else None

    def rank(self, site: Site, tier: int) -> int:
        """Return the rank of a site within its tier."""
        module = self.modules[site.path]
        if isinstance(module, nn.Conv2d):
            return 2 * (min(module.kernel_size) < MIN_KERNEL) + (module.groups > 1)
        return self.likely[site.path] if tier <= AROUND else 0

    def key(self, site: Site, tier: int) -> tuple[object, ...]:
        """Return a key that sites of one kind share."""
        if tier <= AROUND:
            return (site.class_name,)
        last = site.path.rpartition(".")[2]
        shape = site.input.shape[1:] if site.input is not None else ()
        return (site.class_name, "" if last.isdigit() else last, shape)


def _changes(site: Site) -> bool:
    """Return whether the output of a site differs from its input."""
    seen, output = site.input, site.output
    return seen is None or output is None or difference(seen, output) is not None


def _changes_alike(seen: TensorInfo, output: TensorInfo) -> bool:
    """Return whether an output is the input's map or tokens, of any channels and size."""
    return len(seen.shape) == len(output.shape) and seen.shape[0] == output.shape[0]


def _is_torch(site: Site) -> bool:
    return site.class_name.startswith("torch.nn.")


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention)


def _holds_norm(module: nn.Module) -> bool:
    return any("Norm" in type(one).__name__ for one in module.modules())


def _above(path: str) -> Iterator[str]:
    """Yield the paths of the modules around one, the model left out."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _words(name: str) -> frozenset[str]:
    """Return the words of a name: `self_attn SEBlock` is self, attn, se, block."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return frozenset(word.lower() for word in words)

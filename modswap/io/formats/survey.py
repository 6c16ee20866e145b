"""The places, sites and sizes of a file that was read as data, without building its model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modswap.core.decided.optimizer import Parameter
from modswap.core.seen.site import Site
from modswap.core.seen.tree import Tree
from modswap.io.pickled.modules import Sizes
from modswap.io.recognise.implied_tree import WEIGHTS, TensorSize, implied_rows
from modswap.io.recognise.model_places import common_prefix

DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
}  # fmt: skip
EMPTY = ("no model or weights are found in it", "run `modswap tree` on it to see its contents")


@dataclass(frozen=True, slots=True)
class FilePlace:
    """The place of a model or its weights in a file, with the floating dtype of its tensors.

    `keys` lead from the payload down to it; wrappers put `prefix` before every name.
    """

    keys: tuple[str, ...]
    kind: Literal["module", "weights"]
    prefix: str
    dtype: str


@dataclass(frozen=True, slots=True)
class FileSite:
    """A site known from the file alone, without a forward pass; it has no calls.

    `sizes` are those that torch's own layers in it have, None where there are none; `attributes`
    are plain ones, among them those that a host framework set.
    """

    site: Site
    sizes: Sizes | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """The places, sites and sizes of a file.

    The primary place is the first. Every module but the model itself is a site. `parameters` is
    empty where only tensors are known, and `likely` are then those tensors that seem to be
    parameters, where their order is the model's; `params` counts the model's parameter elements;
    `metadata` holds the strings of a safetensors file, `receipt` that of an earlier swap. `names`
    are those of all tensors of the primary place where only tensors are known.
    """

    format: str
    places: tuple[FilePlace, ...]
    sites: tuple[FileSite, ...]
    parameters: tuple[Parameter, ...] = ()
    params: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    receipt: str | None = None
    likely: tuple[Parameter, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightSizes:
    """The elements and bytes of each tensor, by name, in a file without code.

    `dtype` is the floating dtype of most of them; `keys` lead from the payload down to the weights.
    """

    format: str
    sizes: Mapping[str, TensorSize]
    dtype: str = "float32"
    keys: tuple[str, ...] = ()

    def tree(self, file: Path) -> Tree:
        """Return the module tree that the names imply."""
        _, rows = self._rows()
        return Tree(str(file), self.format, rows, notes=(WEIGHTS,))

    def survey(self, receipt: str | None, metadata: Mapping[str, str] | None = None) -> Survey:
        """Return the sites that the names imply, with the file's receipt and strings."""
        prefix, (root, *rows) = self._rows()
        sites = tuple(
            FileSite(Site(r.path, r.class_name, params=r.params, nbytes=r.nbytes, dtype=self.dtype))
            for r in rows
        )
        place = FilePlace(self.keys, "weights", prefix, self.dtype)
        names = tuple(self.sizes)
        return Survey(
            self.format, (place,), sites, (), root.params, metadata or {}, receipt, names=names
        )

    def _rows(self) -> tuple[str, tuple[Any, ...]]:
        prefix = common_prefix(list(self.sizes))
        return prefix, implied_rows({n.removeprefix(prefix): s for n, s in self.sizes.items()})

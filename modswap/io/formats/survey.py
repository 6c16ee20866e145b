"""The places, sites and sizes of a file that was read as data, without building its model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modswap.core.decided.optimizer import Parameter
from modswap.core.seen.site import Site
from modswap.core.seen.tree import Tree
from modswap.io.pickled.modules import Sizes
from modswap.io.recognise.implied_tree import WEIGHTS, implied_rows
from modswap.io.recognise.model_places import common_prefix

DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
}  # fmt: skip
EMPTY = ("no model or weights are found in it", "run `modswap tree` on it to see its contents")


@dataclass(frozen=True, slots=True)
class FilePlace:
    """The place of a model or its weights in a file.

    Args:
        keys: Keys from the payload down to it.
        kind: Whether it is a whole module, or weights by name.
        prefix: The prefix that wrappers put before every name.
        dtype: The floating dtype of its tensors.
    """

    keys: tuple[str, ...]
    kind: Literal["module", "weights"]
    prefix: str
    dtype: str


@dataclass(frozen=True, slots=True)
class FileSite:
    """A site known from the file alone, without a forward pass.

    Args:
        site: The site; it has no calls.
        sizes: The sizes that torch's own layers in it have; None where there are none.
        attributes: Plain attributes, among them those that a host framework set.
    """

    site: Site
    sizes: Sizes | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """The places, sites and sizes of a file.

    Args:
        format: Name of the row of the table of formats.
        places: The places of the model, the primary place first.
        sites: Every module but the model itself, in its order.
        parameters: The model's parameters; empty where only tensors are known.
        params: Parameter elements of the model.
        metadata: The strings of a safetensors file.
        receipt: The receipt of an earlier swap.
    """

    format: str
    places: tuple[FilePlace, ...]
    sites: tuple[FileSite, ...]
    parameters: tuple[Parameter, ...] = ()
    params: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    receipt: str | None = None


@dataclass(frozen=True, slots=True)
class WeightSizes:
    """The sizes of the weights in a file without code.

    Args:
        format: Name of the row of the table of formats.
        sizes: Elements and bytes of each tensor, by name.
        dtype: The floating dtype of most of them.
        keys: Keys from the payload down to the weights.
    """

    format: str
    sizes: Mapping[str, tuple[int, int]]
    dtype: str = "float32"
    keys: tuple[str, ...] = ()

    def tree(self, file: Path) -> Tree:
        """Return the module tree that the names imply."""
        _, rows = self._rows()
        return Tree(str(file), self.format, rows, notes=(WEIGHTS,))

    def survey(self, receipt: str | None, metadata: Mapping[str, str] | None = None) -> Survey:
        """Return the sites that the names imply.

        Args:
            receipt: The receipt of an earlier swap.
            metadata: The strings of a safetensors file.
        """
        prefix, (root, *rows) = self._rows()
        sites = tuple(
            FileSite(Site(r.path, r.class_name, params=r.params, nbytes=r.nbytes, dtype=self.dtype))
            for r in rows
        )
        place = FilePlace(self.keys, "weights", prefix, self.dtype)
        return Survey(self.format, (place,), sites, (), root.params, metadata or {}, receipt)

    def _rows(self) -> tuple[str, tuple[Any, ...]]:
        prefix = common_prefix(list(self.sizes))
        return prefix, implied_rows({n.removeprefix(prefix): s for n, s in self.sizes.items()})

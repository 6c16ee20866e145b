"""The record inside a written file: the swapped sites and their new modules."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from modswap.core.decided.blueprint import Adaptation, Blueprint, LayerFold
from modswap.core.errors import CheckpointError
from modswap.core.seen.joint import Joint
from modswap.core.seen.site import Grid, Layout


class _Record(BaseModel):
    # later versions may add keys: unknown ones are passed over, never executed
    model_config = ConfigDict(frozen=True, extra="ignore")


class AdaptationRecord(_Record):
    """An `Adaptation` as it is written."""

    in_channels: int
    out_channels: int
    stride: tuple[int, int] = (1, 1)
    container: str = ""
    length: int = 0


class SiteRecord(_Record):
    """A new module, complete enough to make it again without a trace."""

    paths: tuple[str, ...]  # the paths that hold it; several where it is shared
    module: str  # catalogue name or `package.module:Class`
    args: dict[str, Any]  # every constructor argument
    layout: Layout | None = None  # layout of the site's tensors
    wants: Layout | None = None  # the layout that the module takes
    ignores: tuple[str, ...] = ()  # inputs that are dropped
    keyword: str = ""  # keyword argument that carries the site's map
    repeats: tuple[str, ...] = ()  # dropped inputs, the same tensor object as the map
    adaptation: AdaptationRecord | None = None  # layers added after it
    drops: tuple[str, ...] = ()  # inputs that are not passed on, of any value
    grid: Grid | None = None  # height and width of the map that the site's tokens always are

    # how it is joined to the module around its path; None where it replaces one
    joint: Joint | None = None
    folds: tuple[LayerFold, ...] = ()  # layers of it that were folded into others

    def blueprint(self) -> Blueprint:
        """Return the instructions for making the module."""
        added = Adaptation(**self.adaptation.model_dump()) if self.adaptation else None
        return Blueprint(
            module=self.module,
            args=self.args,
            layout=self.layout,
            wants=self.wants,
            ignores=self.ignores,
            keyword=self.keyword,
            repeats=self.repeats,
            grid=self.grid,
            drops=self.drops,
            adaptation=added,
            joint=self.joint,
            folds=self.folds,
        )


class SourceRecord(_Record):
    """The file that the swap started from."""

    name: str  # its name, without a folder
    nbytes: int  # its size
    sha256: str = ""  # its digest in hexadecimal; empty for a file too large to be read again


class Receipt(_Record):
    """The new modules of a file, with the versions that made them."""

    modswap: str  # version of modswap
    torch: str  # version of torch
    # the file that the swap started from; None for a model in memory
    source: SourceRecord | None = None
    recipe_sha256: str = ""  # digest of the recipe's text as it is written beside the receipt
    # every new module in the file, those of earlier swaps included
    sites: tuple[SiteRecord, ...] = ()
    # CRC-32 in hexadecimal, 8 digits each, of a safetensors file: of its header, then of every
    # tensor in the order of their names; by the file's name in a folder, else by an empty one
    digests: dict[str, str] = {}

    def text(self) -> str:
        """Return the receipt as it is written into a file.

        Raises:
            CheckpointError: If a name in it holds half a character, which JSON has no room for.
        """
        empty = None if self.digests else {"digests"}
        try:
            return self.model_dump_json(indent=1, exclude=empty)
        except PydanticSerializationError as error:
            what = "a name of a swapped module cannot be written into the receipt"
            what = f"{what}: {str(error).rpartition(': ')[2]}"
            raise CheckpointError(what, fix="rename the module where it was made") from None


def read_receipt(text: str, where: str) -> Receipt:
    """Return the receipt found inside a file as JSON, or raise a `CheckpointError`."""
    try:
        return Receipt.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its top"
        what = f"the receipt inside is damaged at {place!r}: {first['msg'].lower()}"
        raise CheckpointError(what, where, "write the file again with `modswap replace`") from None


def with_digests(text: str, digests: Mapping[str, str]) -> str:
    """Return the text of a receipt with digests in it."""
    known = json.loads(text)
    return json.dumps({**known, "digests": dict(digests)}, indent=1, ensure_ascii=False)


def record(paths: tuple[str, ...], blueprint: Blueprint) -> SiteRecord:
    """Return the record of a blueprint for a receipt."""
    added = blueprint.adaptation
    return SiteRecord(
        paths=paths,
        module=blueprint.module,
        args=dict(blueprint.args),
        layout=blueprint.layout,
        wants=blueprint.wants,
        ignores=blueprint.ignores,
        keyword=blueprint.keyword,
        repeats=blueprint.repeats,
        grid=blueprint.grid,
        drops=blueprint.drops,
        joint=blueprint.joint,
        folds=blueprint.folds,
        adaptation=None
        if added is None
        else AdaptationRecord(
            in_channels=added.in_channels,
            out_channels=added.out_channels,
            stride=added.stride,
            container=added.container,
            length=added.length,
        ),
    )

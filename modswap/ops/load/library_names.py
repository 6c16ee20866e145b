"""The names that a library gives the tensors of its models in files, where they are others."""

import copy
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.ops.run.describe import one_line

_TABLES = "transformers.conversion_mapping"
_LOADING = "transformers.core_model_loading"


@dataclass(frozen=True, slots=True)
class Conversion:
    """Tensors of a file from which a library makes one tensor of the model, or several.

    `target` is the name of the first of them in the model. Without a `converter` the one source has
    another name there, and nothing else; with one, `patterns` has the place that each source takes.
    """

    target: str
    sources: tuple[str, ...]
    converter: Any = None
    patterns: tuple[str, ...] = ()

    def with_source(self, name: str, pattern: str) -> "Conversion":
        """Return it with a further tensor of the file, in the place of a pattern."""
        sources, patterns = (*self.sources, name), (*self.patterns, pattern)
        return Conversion(self.target, sources, self.converter, patterns)


class LibraryNames:
    """The conversions of transformers for a model, by the library's own tables and functions.

    They are taken from the model as the library builds it, before anything in it is swapped.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.loading = import_module(_LOADING)
        tables = import_module(_TABLES)
        found = tables.get_model_conversion_mapping(model)
        self.prefix = model.base_model_prefix
        self.renamings, self.converters = self._kinds(found)
        current = tables.get_model_conversion_mapping(model, add_legacy=False)
        self.backwards = list(self._reversed(current))

    def _kinds(self, transforms: Iterable[Any]) -> tuple[list[Any], list[Any]]:
        """Return the transforms that rename, and those that convert."""
        known = list(transforms)
        kinds = (self.loading.WeightRenaming, self.loading.WeightConverter)
        renamings, converters = ([one for one in known if isinstance(one, k)] for k in kinds)
        return renamings, converters

    def _reversed(self, transforms: Iterable[Any]) -> Iterator[Any]:
        """Yield the reverse of each renaming, the last one first."""
        dropped = getattr(self.loading, "PrefixChange", ())
        for transform in self._kinds(transforms)[0][::-1]:
            if not isinstance(transform, dropped):
                yield transform.reverse_transform()

    def parts(
        self, names: Iterable[str], wanted: Mapping[str, Any]
    ) -> tuple[list[Conversion], dict[str, str]]:
        """Return the parts of a model's tensors, `wanted`, that the names of a file mean.

        Names that mean none of them come second, with the names that the library looks for.
        """
        renamings, converters = copy.deepcopy((self.renamings, self.converters))
        by_pattern = {text: one for one in converters for text in one.source_patterns}
        single: dict[str, Conversion] = {}
        several: dict[str, Conversion] = {}
        others: dict[str, str] = {}
        for name in sorted(names, key=getattr(self.loading, "dot_natural_key", None)):
            target, pattern = self._target(name, (renamings, converters), wanted)
            converter = by_pattern.get(pattern or "")
            if not _makes_any(target, converter, wanted):
                others[name] = target
            elif converter is not None:
                old = several.get(target, Conversion(target, (), converter))
                several[target] = old.with_source(name, str(pattern))
            elif single.setdefault(target, Conversion(target, (name,))).sources != (name,):
                others[name] = target
        return [*several.values(), *single.values()], others  # the last one of a name counts

    def _target(
        self, name: str, transforms: tuple[list[Any], list[Any]], wanted: Mapping[str, Any]
    ) -> tuple[str, str | None]:
        """Return the name of the first tensor that is made of a tensor, as the library finds it."""
        rename = self.loading.rename_source_key
        target, pattern = rename(name, *transforms, self.prefix, wanted)
        if target not in wanted and name in wanted:
            target, pattern = rename(name, [], [], self.prefix, wanted)
        return target, pattern

    def candidate(self, name: str) -> str:
        """Return the name that a tensor of the model may have in a file."""
        for renaming in self.backwards:
            name, _ = renaming.rename_source_key(name)
        return name

    def made(
        self, part: Conversion, weights: Mapping[str, torch.Tensor], where: str
    ) -> dict[str, torch.Tensor]:
        """Return the tensors that a converter makes, by their names in the model.

        Raises:
            CheckpointError: If the library's conversion does not fit the tensors.
        """
        work = copy.deepcopy(part.converter)
        try:
            for source, pattern in zip(part.sources, part.patterns, strict=True):
                work.add_tensor(part.target, source, pattern, weights[source])
            with torch.no_grad():
                made = work.convert(part.target, model=self.model, config=self.model.config)
        except Exception as error:  # operations of the library, on tensors of any shape
            what = f"the library cannot make {part.target!r:.80} of it: {one_line(error)}"
            raise CheckpointError(what, where, "save or download it again") from error
        return {
            name: value[0] if isinstance(value, list) else value for name, value in made.items()
        }


def _makes_any(first: str, converter: Any, wanted: Mapping[str, Any]) -> bool:
    """Return whether a tensor is wanted, or another one that a converter makes beside it."""
    if converter is None:
        return first in wanted
    patterns = converter.target_patterns
    return any(first.replace(patterns[0], pattern) in wanted for pattern in patterns)


def library_names(model: nn.Module) -> LibraryNames | None:
    """Return the names of the library that a model is of; None where it has none of its own."""
    known = sys.modules.get("transformers.modeling_utils")
    if known is None or not isinstance(model, known.PreTrainedModel):
        return None
    try:
        return LibraryNames(model)
    except (ImportError, AttributeError):  # a version without such tables
        return None


def record_outputs(model: nn.Module) -> None:
    """Let models of transformers that a pickle made hand out hidden states.

    Their constructors note for each class what can be handed out, and a pickle calls none.
    """
    known: Any = sys.modules.get("transformers.modeling_utils")
    registry: Any = getattr(known, "_CAN_RECORD_REGISTRY", None)  # None in older versions
    for module in () if registry is None else model.modules():
        if isinstance(module, known.PreTrainedModel):
            registry[module] = module._can_record_outputs  # noqa: SLF001 - as its constructor does

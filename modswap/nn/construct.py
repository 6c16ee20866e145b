"""Making the module that a blueprint describes."""

from collections.abc import Callable

from torch import nn

from modswap.core.blueprint import Blueprint
from modswap.nn import CATALOGUE
from modswap.nn.adapters import SiteAdapter


def construct(blueprint: Blueprint, cls: type[nn.Module] | None = None) -> nn.Module:
    """Return the module that a blueprint describes, initialised under the current random state.

    Args:
        blueprint: What to make.
        cls: The class, where the blueprint names one that is not in the catalogue.

    Raises:
        ValueError: If the blueprint's module is neither in the catalogue nor given.
    """
    make: Callable[..., nn.Module]
    if cls is not None:
        make = cls
    elif blueprint.module in CATALOGUE:
        make = CATALOGUE[blueprint.module].module
    else:
        raise ValueError(f"{blueprint.module!r} is not in the catalogue, and no class is given")
    module = make(**blueprint.args)
    if not _needs_adapter(blueprint):
        return module
    return SiteAdapter(
        module,
        layout=blueprint.layout,
        wants=blueprint.wants,
        ignores=blueprint.ignores,
        adaptation=blueprint.adaptation,
    )


def _needs_adapter(blueprint: Blueprint) -> bool:
    return bool(
        blueprint.layout != blueprint.wants
        or blueprint.ignores
        or blueprint.adaptation
        or blueprint.keyword
    )

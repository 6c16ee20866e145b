"""Making the module that a blueprint describes."""

from torch import nn

from modswap.core.decided.blueprint import Blueprint
from modswap.nn import CATALOGUE
from modswap.nn.adapters import SiteAdapter
from modswap.nn.folded_layers import refolded
from modswap.nn.insertion import Insertion


def construct(blueprint: Blueprint, cls: type[nn.Module] | None = None) -> nn.Module:
    """Return the module that a blueprint describes, initialised under the current random state.

    `cls` is the class of a module that is not in the catalogue; None: the catalogue's.

    Raises:
        ValueError: If the blueprint's module is neither in the catalogue nor given, or has no such
            layers as were folded.
    """
    if cls is None and blueprint.module not in CATALOGUE:
        raise ValueError(f"{blueprint.module!r} is not in the catalogue, and no class is given")
    make = CATALOGUE[blueprint.module].module if cls is None else cls
    module = _adapted(refolded(make(**blueprint.args), blueprint.folds), blueprint)
    return module if blueprint.joint is None else Insertion(module, blueprint.joint)


def _adapted(module: nn.Module, blueprint: Blueprint) -> nn.Module:
    """Return a module with an adapter around it, where its site needs one."""
    if blueprint.fits:
        return module
    adapter = SiteAdapter(
        module,
        layout=blueprint.layout,
        wants=blueprint.wants,
        ignores=blueprint.ignores,
        repeats=blueprint.repeats,
        adaptation=blueprint.adaptation,
    )
    return adapter.of_grid(blueprint.grid).without(blueprint.drops)

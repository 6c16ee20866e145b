"""Make a new module under the recipe's seed."""

import zlib

from torch import nn

from modswap.core.asked.import_name import import_object
from modswap.core.asked.recipe import Recipe
from modswap.core.decided.blueprint import Blueprint
from modswap.core.decided.plan import Step
from modswap.core.errors import RecipeError
from modswap.core.seen.site import Site
from modswap.nn.construct import construct
from modswap.ops.run.describe import one_line
from modswap.seeds import seeded


def import_class(reference: str, *, folder: str, where: str) -> type[nn.Module]:
    """Return the module class that a user named."""
    found = import_object(reference, folder=folder, where=where)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        what = f"{reference!r} is {found!r:.80}, expected a class derived from torch.nn.Module"
        raise RecipeError(what, where, "name the class itself")
    return found


def new_module(
    step: Step, sites: tuple[Site, ...], blueprint: Blueprint, recipe: Recipe
) -> nn.Module:
    """Return a new module as a recipe's seed and the path of its first site initialise it."""
    cls = None
    if ":" in blueprint.module:
        where = recipe.at(*step.place, "with")
        cls = import_class(blueprint.module, folder=recipe.source.folder, where=where)
    try:
        return make_module(blueprint, cls, seed_of(recipe, sites[0].path))
    except (RuntimeError, MemoryError) as error:
        what = f"{blueprint.module} cannot be made: {one_line(error, 160)}"
        where = recipe.at(*step.place, "args")
        raise RecipeError(what, where, "ask for a smaller one") from error


def seed_of(recipe: Recipe, path: str) -> int:
    """Return the seed of the new module at a path.

    It is another for each path, so that a further rule does not change the weights of this one.
    """
    return (recipe.seed + zlib.crc32(path.encode("utf-8", "surrogatepass"))) % 2**63


def make_module(blueprint: Blueprint, cls: type[nn.Module] | None, seed: int) -> nn.Module:
    """Return a freshly initialised module; the random state outside is not touched."""
    with seeded(seed):
        return construct(blueprint, cls)

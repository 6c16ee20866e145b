"""Replace modules inside trained PyTorch models, checked by a dummy forward pass."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modswap.core.outcome import Outcome
    from modswap.core.recipe import Recipe
    from modswap.io.recipe import read_recipe
    from modswap.ops.python import apply_recipe, load, replace, save

__version__ = "0.1.0"

__all__ = [
    "Outcome",
    "Recipe",
    "__version__",
    "apply_recipe",
    "load",
    "read_recipe",
    "replace",
    "save",
]

_HOMES = {
    "Outcome": "modswap.core.outcome",
    "Recipe": "modswap.core.recipe",
    "read_recipe": "modswap.io.recipe",
    "apply_recipe": "modswap.ops.python",
    "load": "modswap.ops.python",
    "replace": "modswap.ops.python",
    "save": "modswap.ops.python",
}


def __getattr__(name: str) -> Any:
    # resolved at first use (PEP 562): `import modswap` alone imports no torch
    if name not in _HOMES:
        raise AttributeError(f"module 'modswap' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Replace modules inside trained PyTorch models, checked by a dummy forward pass."""

from typing import TYPE_CHECKING, Any

from modswap.core.version import __version__

if TYPE_CHECKING:
    from modswap.core.asked.recipe import Recipe
    from modswap.core.kept.outcome import Outcome
    from modswap.explanation import Explanation, explain
    from modswap.ops.api import apply_recipe, heal, insert, load, replace, save
    from modswap.ops.compare.call import diff
    from modswap.ops.recipes import read_recipe
    from modswap.ops.sweep.call import sweep

__all__ = [
    "Explanation",
    "Outcome",
    "Recipe",
    "__version__",
    "apply_recipe",
    "diff",
    "explain",
    "heal",
    "insert",
    "load",
    "read_recipe",
    "replace",
    "save",
    "sweep",
]

_HOMES = {
    "Explanation": "modswap.explanation",
    "explain": "modswap.explanation",
    "Outcome": "modswap.core.kept.outcome",
    "Recipe": "modswap.core.asked.recipe",
    "read_recipe": "modswap.ops.recipes",
    "apply_recipe": "modswap.ops.api",
    "diff": "modswap.ops.compare.call",
    "heal": "modswap.ops.api",
    "insert": "modswap.ops.api",
    "load": "modswap.ops.api",
    "replace": "modswap.ops.api",
    "save": "modswap.ops.api",
    "sweep": "modswap.ops.sweep.call",
}


def __getattr__(name: str) -> Any:
    # resolved at first use (PEP 562): `import modswap` alone imports no torch
    if name not in _HOMES:
        raise AttributeError(f"module 'modswap' has no attribute {name!r}")
    from importlib import import_module

    from modswap.core.platforms import refusal

    if reason := refusal():
        raise ImportError(reason)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

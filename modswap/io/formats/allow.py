"""What a pickled checkpoint may build: torch's layers, modswap's, and what the user named."""

import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.code import import_object
from modswap.core.errors import RecipeError, UnsafeError
from modswap.core.job import Policy

# functions that torch's own layers keep as attributes; called, they compute and nothing else
_ACTIVATIONS = (
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax",
    "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "tanh",
)  # fmt: skip
FUNCTIONS = frozenset(
    f"{module}.{name}"
    for module in ("torch.nn.functional", "torch._C._nn", "torch")
    for name in _ACTIVATIONS
)
# packages whose functions run code or reach files: never offered for `--allow`
DANGEROUS = frozenset(
    (
        "builtins",
        "code",
        "codeop",
        "commands",
        "ctypes",
        "ftplib",
        "http",
        "importlib",
        "io",
        "marshal",
        "multiprocessing",
        "nt",
        "os",
        "pickle",
        "pip",
        "platform",
        "posix",
        "pty",
        "pydoc",
        "requests",
        "runpy",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "urllib",
        "webbrowser",
        "_pickle",
        "_posixsubprocess",
    )
)
OURS = ("modswap.nn.", "modswap.ops.demo.")


def resolve(wanted: Iterable[str], policy: Policy, file: Path) -> list[tuple[Any, str]]:
    """Return the object for every name that a file wants, for torch's safe unpickler.

    A name is looked up among modules that are imported already, or imported if the user named it;
    never because a file does.

    Args:
        wanted: Dotted names found in the file.
        policy: What the user allows.
        file: The file, for errors.

    Raises:
        UnsafeError: If any of them is not allowed; all are listed.
    """
    found: list[tuple[Any, str]] = []
    refused: list[str] = []
    aliases = dict(policy.aliases)
    for name in dict.fromkeys(wanted):
        if name in aliases:
            found.append((_named_by_user(aliases[name], file), name))
        elif (known := _known(name)) is not None:
            found.append((known, name))
        elif any(fnmatchcase(name, pattern) for pattern in policy.allow):
            found.append((_named_by_user(name, file), name))
        else:
            refused.append(name)
    if refused:
        raise _unsafe(refused, file)
    return found


def _known(name: str) -> Any:
    """Return a layer of torch or of modswap by its dotted name, or None."""
    module_name, _, attribute = name.rpartition(".")
    if name in FUNCTIONS:
        return getattr(sys.modules.get(module_name), attribute, None)
    if name.startswith("torch.nn."):
        value = getattr(sys.modules.get(module_name), attribute, None)
        # by its home, so that nothing which torch merely imports is let in
        home = getattr(value, "__module__", "")
        return value if isinstance(value, type) and str(home).startswith("torch.nn.") else None
    if name.startswith(OURS):
        value = _named_by_user(name, Path())
        return value if isinstance(value, type) and issubclass(value, nn.Module) else None
    return None


def _named_by_user(name: str, file: Path) -> Any:
    """Import an object by its dotted name; the last segments may be nested classes."""
    segments = name.split(".")
    error: RecipeError | None = None
    for end in range(len(segments) - 1, 0, -1):
        reference = f"{'.'.join(segments[:end])}:{'.'.join(segments[end:])}"
        try:
            return import_object(reference, folder=".", where=str(file))
        except RecipeError as raised:
            error = error or raised
            if "no module named" not in raised.what:
                break
    what = f"{name!r} is allowed but cannot be found"
    detail = (
        f": {error.what}" if error else ": a dotted name such as package.module.Class is needed"
    )
    fix = "install its package, or say where it is now: --alias OLD=NEW"
    raise UnsafeError(what + detail, str(file), fix)


def _unsafe(refused: Sequence[str], file: Path) -> UnsafeError:
    dangerous = [name for name in refused if name.split(".")[0] in DANGEROUS]
    others = [name for name in refused if name not in dangerous]
    listed = ", ".join(refused)
    count = "1 name that is" if len(refused) == 1 else f"{len(refused)} names that are"
    what = f"to load it, {count} not allowed would have to be built or called: {listed}"
    if dangerous:
        fix = (
            f"do not load it unless it is your own: {', '.join(dangerous)} can run any code; "
            "for a file of your own making there is --trust"
        )
        return UnsafeError(what, str(file), fix)
    options = " ".join(_option(name) for name in others)
    fix = f"if you trust these classes, add {options} (or --allow package.* for a whole package)"
    return UnsafeError(what, str(file), fix)


def _option(name: str) -> str:
    if name.startswith("__main__."):
        return f"--alias {name}=yourmodule.{name.removeprefix('__main__.')}"
    return f"--allow {name}"

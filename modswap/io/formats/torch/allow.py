"""Resolve the names that a pickled checkpoint may build: of torch, of modswap, of the user."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.asked.import_name import import_object
from modswap.core.asked.job import Policy
from modswap.core.asked.package_search import class_in_package
from modswap.core.asked.permissions import package_prefixes
from modswap.core.errors import MissingModuleError, RecipeError, UnsafeError
from modswap.io.formats.torch.default_dict import (
    DATA_TYPES,
    NAME,
    called_names,
    filled_dict,
    unfillable,
)
from modswap.io.formats.torch.stand_ins import standing_in
from modswap.io.pickled.data import Instance
from modswap.io.pickled.names import is_name, runs_code
from modswap.io.pickled.values import BLANK, class_of

# functions that torch's own layers keep as attributes; called, they compute and nothing else
_ACTIVATIONS = (
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax",
    "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "tanh",
)  # fmt: skip
_FUNCTIONS = frozenset(
    f"{module}.{name}"
    for module in ("torch.nn.functional", "torch._C._nn", "torch")
    for name in _ACTIVATIONS
)
_OURS = ("modswap.nn.", "modswap.ops.demo.")


def resolve(
    wanted: Iterable[str], policy: Policy, file: Path, made: Sequence[Instance] = ()
) -> list[tuple[Any, str]]:
    """Return the object for every name that a file wants, for torch's safe unpickler.

    A name is looked up among modules that are imported already, or imported if the user named it;
    never because a file does. `made` are the objects that the file makes.

    Raises:
        UnsafeError: If any of them is not allowed; all are listed.
    """
    names = list(dict.fromkeys(wanted))
    known = python_data(names, made)
    objects = {name: known.get(name) or _allowed(name, policy, file) for name in names}
    refused = [name for name in names if objects[name] is None]
    if refused:
        raise _unsafe(refused, unfillable(made), file)
    others = (*_dtypes(objects), *_sites(objects, made))
    return [(value, name) for name, value in (*objects.items(), *others)]


def _sites(objects: Mapping[str, Any], made: Sequence[Instance]) -> Iterator[tuple[str, type]]:
    """Yield the classes of modules that have others beside them, which no file names.

    Their names begin so that no pickle can ask for them.
    """
    for name in {str(class_of(one)): None for one in made if one.what == BLANK}:
        cls = objects.get(name)
        if isinstance(cls, type) and issubclass(cls, nn.Module):
            yield f"\n{name}", import_module(BLANK.module).class_of_site(cls)


def _dtypes(objects: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the classes of NumPy's dtypes, which the unpickler needs and no file names."""
    if "numpy.dtype" not in objects or "numpy.dtypes" not in sys.modules:
        return []
    kinds = vars(sys.modules["numpy.dtypes"])
    return [(f"numpy.dtypes.{name}", kinds[name]) for name in kinds["__all__"]]


def python_data(names: Sequence[str], made: Sequence[Instance]) -> dict[str, Any]:
    """Return the names that stand for data of Python, if the file does not call them itself."""
    held = DATA_TYPES.keys() & names
    types = {name: DATA_TYPES[name] for name in held - called_names(made)} if held else {}
    return {NAME: filled_dict, **types}


def _allowed(name: str, policy: Policy, file: Path) -> Any:
    """Return the object of a name that may be built, or None."""
    aliases = dict(policy.aliases)
    if name in aliases:
        return _named_by_user(aliases[name], file)
    if not is_name(name):
        return None
    known = _own(name, file) if name.startswith(_OURS) else _of_torch(name)
    if known is not None:
        return known
    if name in policy.allow:
        return _named_by_user(name, file)
    if name.startswith(package_prefixes(policy.allow)) and not runs_code(name):
        return _of_package(name, file)
    return None


def _of_package(name: str, file: Path) -> Any:
    """Return a layer of a package that the user named, a stand-in for plain data of it, or None.

    Functions, and classes that take code of their own to be built, have to be named one by one.
    """
    try:
        cls = class_in_package(name, folder=".", where=str(file))
    except RecipeError as error:
        raise _not_found(name, error, file) from None
    return None if cls is None else standing_in(cls, name, file)


def _of_torch(name: str) -> Any:
    """Return a layer of torch, or a function that its layers keep, or None."""
    module_name, _, attribute = name.rpartition(".")
    value = getattr(sys.modules.get(module_name), attribute, None)
    if name in _FUNCTIONS:
        return value
    # by its home, so that nothing which torch merely imports is let in
    home = str(getattr(value, "__module__", ""))
    inside = name.startswith("torch.nn.") and home.startswith("torch.nn.")
    return value if inside and isinstance(value, type) else None


def _own(name: str, file: Path) -> Any:
    """Return a layer of modswap, or None if it is something else; refuse one of another version."""
    module_name, _, attribute = name.rpartition(".")
    try:
        value = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError):
        what = f"it was written by another version of modswap: this one has no {name!r}"
        raise UnsafeError(what, str(file), "update modswap") from None
    home = f"{getattr(value, '__module__', '')}."
    layer = isinstance(value, type) and issubclass(value, nn.Module) and home.startswith(_OURS)
    return value if layer or name == str(BLANK) else None


def _named_by_user(name: str, file: Path) -> Any:
    """Import an object by its dotted name; the last segments may be nested classes."""
    segments = name.split(".")
    if segments[0] == "exceptions":  # their module in Python 2, and so in pickles of torch
        segments[0] = "builtins"
    error: RecipeError | None = None
    for end in range(len(segments) - 1, 0, -1):
        reference = f"{'.'.join(segments[:end])}:{'.'.join(segments[end:])}"
        try:
            return import_object(reference, folder=".", where=str(file))
        except RecipeError as raised:
            error = error or raised
            if not isinstance(raised, MissingModuleError):
                break
    raise _not_found(name, error, file)


def _not_found(name: str, error: RecipeError | None, file: Path) -> UnsafeError:
    detail = error.what if error else "a dotted name such as package.module.Class is needed"
    what = f"{name!r} is allowed but cannot be found: {detail}"
    return UnsafeError(
        what, str(file), "install its package, or say where it is now: --alias OLD=NEW"
    )


def _unsafe(refused: Sequence[str], unfilled: Set[str], file: Path) -> UnsafeError:
    dangerous = [name for name in refused if runs_code(name)]
    count = "1 name that is" if len(refused) == 1 else f"{len(refused)} names that are"
    what = f"to load it, {count} not allowed would have to be built or called: {', '.join(refused)}"
    if dangerous:
        fix = (
            f"do not load it unless it is your own: {', '.join(dangerous)} can run any code; "
            "for a file of your own making there is --trust"
        )
        return UnsafeError(what, str(file), fix)
    if kinds := [name for name in refused if name in unfilled]:
        fix = (
            f"save them as plain dictionaries and lists, since no safe loader fills a {kinds[0]}; "
            "`replace --no-forward` swaps without building anything of the file; for a file of "
            "your own making there is --trust"
        )
        return UnsafeError(what, str(file), fix).with_retry("--no-forward")
    options = [word for name in refused for word in _option(name)]
    fix = (
        f"if you trust them, add {' '.join(options)} (--allow package.* admits layers and plain "
        "data); `replace --no-forward` swaps without building anything of the file"
    )
    return UnsafeError(what, str(file), fix).with_retry(*options)


def _option(name: str) -> tuple[str, str]:
    if name.startswith("__main__."):
        return "--alias", f"{name}=yourmodule.{name.removeprefix('__main__.')}"
    return "--allow", name

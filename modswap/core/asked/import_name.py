"""Importing the code that a user named: `package.module:name` or `file.py:name`.

A factory may have arguments, `package.module:build(width=2)`: literals, which are never evaluated.
"""

import ast
import importlib
import importlib.util
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from modswap.core.asked.scripts.needed import is_script
from modswap.core.asked.scripts.script import (
    Script,
    ScriptModule,
    importable,
    known_script,
    module_of_file,
    script_of,
)
from modswap.core.errors import MissingModuleError, ModswapError, RecipeError
from modswap.core.words.nearest import file_near, in_question, nearest

MAX_CHARACTERS = 4096  # of a factory with its arguments
MAX_DEPTH = 8  # of lists and mappings inside one another
MAX_SHOWN = 60  # characters of what is refused
# the name behind the first colon that has one, and what is in its brackets
_CALL = re.compile(r"([^\x00]*?:[^\W\d][\w.]*)\s*\(([^\x00]*)\)\s*", re.DOTALL)
_OPEN = re.compile(r":[^\W\d][\w.]*\s*\(")
_VALUES = "numbers, texts in quotes, True, False, None, and lists, tuples and mappings of these"
_RELATIVE = "paths are relative to the recipe, on the command line to the current folder"
_FIX = f"write {_VALUES}: --model \"timm:create_model(model_name='resnet18', num_classes=10)\""


def split_reference(reference: str, where: str) -> tuple[str, str]:
    """Return the module or file, and the name in it; both sides of the colon must be there."""
    module, colon, name = reference.rpartition(":")
    if not colon or not module or not name:
        what = f"{reference!r} does not say where to find it"
        package, dot, last = reference.rpartition(".")
        dotted = dot and package and last.isidentifier() and last != "py" and not colon
        meant = f"`{package}:{last}`" if dotted else "package.module:name or file.py:name"
        raise RecipeError(what, where, f"write {meant}")
    return module, name


def import_object(reference: str, *, folder: str, where: str) -> object:
    """Return the object that a reference names, importing its module as the user asked.

    The reference is `package.module:name` or `file.py:name`, and the name may be dotted; relative
    files and modules beside them are looked up in `folder`. Of a script there only what the name
    needs is run.

    Raises:
        RecipeError: If there is no such file, module or name, or its code raises.
    """
    module_name, name = split_reference(reference, where)
    if module_name.endswith(".py"):
        with importable(folder):
            module = _load_in_package(module_name, name, folder, where)
    else:
        module = module_for(module_name, name, folder, where)
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, [known for known in dir(found) if not known.startswith("_")])
            fix = in_question(near) or "correct the name"
            what = f"{module_name} has no {name!r}"
            raise RecipeError(what, where, fix)  # no setting: a near name may be another class
        found = getattr(found, part)
    return found


def module_for(module_name: str, name: str, folder: str, where: str) -> ModuleType:
    """Return a module that holds a name; of a script in `folder` only what the name needs is run.

    A module of a package with an `__init__.py` is made to be imported, and is.

    Raises:
        RecipeError: As `load_module` and `known_script` do.
    """
    first = name.split(".")[0]
    parent, _, _ = module_name.rpartition(".")
    file = Path(folder, *module_name.split(".")).with_suffix(".py")
    packed = file.with_suffix("").is_dir() or (parent and file.with_name("__init__.py").is_file())
    beside = file.is_file() and not packed
    if parent and beside and module_name not in sys.modules:
        load_module(parent, folder, where)
    known = sys.modules.get(module_name)
    if isinstance(known, ScriptModule) or (known is None and beside and is_script(file)):
        file = Path(str(known.__file__)) if known is not None else file
        return known_script(Script(str(file), (first,), module_name), where)
    return load_module(module_name, folder, where)


def load_module(name: str, folder: str, where: str) -> ModuleType:
    """Return the module of a dotted name, imported; modules may lie in `folder` as well.

    Raises:
        RecipeError: If it raises; a `MissingModuleError` if there is none.
    """
    try:
        with importable(folder):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            what = f"no module named {missing!r}"
            raise MissingModuleError(what, where, "install it, or correct the name") from None
        raise _raised(name, where, error) from error
    except Exception as error:
        raise _raised(name, where, error) from error


def _load_in_package(file_name: str, name: str, folder: str, where: str) -> ModuleType:
    """Return the module of a file; if it needs to be a part of its package, say how to name it.

    Raises:
        RecipeError: As `_load_file` does.
    """
    try:
        return _load_file(Path(folder, file_name), name, where)
    except RecipeError as error:
        cause, parts = error.__cause__, Path(file_name).with_suffix("").parts
        relative = isinstance(cause, ImportError) and "relative import" in str(cause)
        if not relative or len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise
        fix = f"name it as a module of its package: {'.'.join(parts)}:{name}"
        raise RecipeError(error.what, error.where, fix) from cause


def _load_file(file: Path, name: str, where: str) -> ModuleType:
    if not file.is_file():
        fix = file_near(file, of_kind=True) or _RELATIVE
        raise RecipeError(f"no file {str(file)!r}", where, fix)
    if isinstance(sys.modules.get(module_of_file(file)), ScriptModule) or is_script(file):
        return known_script(script_of(file, (name.split(".")[0],)), where)
    # the name follows from the path, so that the file runs once and its classes can be pickled
    known = module_of_file(file)
    if known in sys.modules:
        return sys.modules[known]
    name = script_of(file, ()).module
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = sys.modules[known] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[known]
        sys.modules.pop(name, None)
        raise _raised(file.name, where, error) from error
    return module


def _raised(name: str, where: str, error: BaseException) -> RecipeError:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, SyntaxError):
        places = [f" at {Path(error.filename or name).name}:{error.lineno}"]
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = ("<frozen", __file__)
        theirs = [frame for frame in frames if not frame.filename.startswith(own)]
        places = [f" at {Path(frame.filename).name}:{frame.lineno}" for frame in theirs]
    what = f"importing {name!r} raised {type(error).__name__}: {text}{''.join(places[-1:])}"
    return RecipeError(what, where, "import it in a Python session to see why")


@dataclass(frozen=True, slots=True)
class FactoryCall:
    """The reference of a callable, and the arguments that it is called with."""

    reference: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def split_arguments(text: str) -> tuple[str, str]:
    """Return a factory's reference and its arguments in brackets, empty for none."""
    found = _CALL.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    return (found[1], f"({found[2]})") if found else (text, "")


def factory_call(text: str, where: str, error: type[ModswapError]) -> FactoryCall:
    """Return the callable and the arguments that a text names; nothing is imported or evaluated.

    Raises:
        ModswapError: Of the class `error`, if an argument is no literal, or the text is too long;
            a `RecipeError` if it does not say where to find the callable.
    """
    if len(text) > MAX_CHARACTERS:
        what = f"the factory has {len(text)} characters, over {MAX_CHARACTERS}"
        raise error(what, where, "write a function of your own that calls it: file.py:build")
    reference, written = split_arguments(text)
    if not written and _OPEN.search(text):
        raise error(f"{text!r:.80} lacks the closing bracket", where, _FIX)
    split_reference(reference, where)
    if not written:
        return FactoryCall(text)
    call = _parsed(written)
    if call is None:
        what = f"the arguments {_short(written)} cannot be read as Python"
        raise error(what, where, _FIX)
    try:
        args, kwargs = _values(call, written)
    except _NoLiteralError as found:
        raise error(f"{found} is no literal", where, _FIX) from None
    if len(kwargs) < len(call.keywords):
        raise error(f"an argument of {_short(written)} is given twice", where, "keep one of them")
    return FactoryCall(reference, args, kwargs)


def _values(call: ast.Call, written: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the values of the arguments of a call."""
    args = tuple(_literal(node, written) for node in call.args)
    return args, {_name(one): _literal(one.value, written) for one in call.keywords}


class _NoLiteralError(ValueError):
    """A part of the arguments would have to be evaluated."""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"`{line[:MAX_SHOWN]}{'…' if len(line) > MAX_SHOWN else ''}`"


def _parsed(written: str) -> ast.Call | None:
    """Return the call of a name with the arguments; None if they are none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(f"f{written[:-1]}\n)", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return tree if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) else None


def _name(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise _NoLiteralError("`**`")
    return keyword.arg


def _literal(node: ast.expr, written: str, depth: int = 0) -> Any:
    """Return the value of a literal, or raise a `_NoLiteralError` with its text."""
    inner = depth + 1
    if depth < MAX_DEPTH:
        match node:
            case ast.Constant(value=str() | int() | float() | None):
                return node.value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.List(elts=items):
                return [_literal(item, written, inner) for item in items]
            case ast.Tuple(elts=items):
                return tuple(_literal(item, written, inner) for item in items)
            case ast.Dict(keys=keys, values=values) if None not in keys:
                named = [_literal(key, written, MAX_DEPTH - 1) for key in keys if key is not None]
                held = [_literal(value, written, inner) for value in values]
                return dict(zip(named, held, strict=True))
    raise _NoLiteralError(_short(ast.get_source_segment(f"f{written}", node) or "a part of them"))

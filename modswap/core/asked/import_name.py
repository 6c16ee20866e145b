"""Importing the code that a user named: `package.module:name` or `file.py:name`."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from modswap.core.errors import MissingModuleError, RecipeError
from modswap.core.words.nearest import file_near, in_question, nearest


def split_reference(reference: str, where: str) -> tuple[str, str]:
    """Return the module or file, and the name in it; both sides of the colon must be there."""
    module, colon, name = reference.rpartition(":")
    if not colon or not module or not name:
        what = f"{reference!r} does not say where to find it"
        raise RecipeError(what, where, "write package.module:name or file.py:name")
    return module, name


def import_object(reference: str, *, folder: str, where: str) -> object:
    """Return the object that a reference names, importing its module as the user asked.

    The reference is `package.module:name` or `file.py:name`, and the name may be dotted; relative
    files and modules beside them are looked up in `folder`.

    Raises:
        RecipeError: If there is no such file, module or name, or its code raises.
    """
    module_name, name = split_reference(reference, where)
    if module_name.endswith(".py"):
        with _importable(folder):
            module = _load_file(Path(folder, module_name), where)
    else:
        module = load_module(module_name, folder, where)
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, [known for known in dir(found) if not known.startswith("_")])
            fix = in_question(near) or "correct the name"
            what = f"{module_name} has no {name!r}"
            raise RecipeError(what, where, fix)  # no setting: a near name may be another class
        found = getattr(found, part)
    return found


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Allow imports of modules beside the recipe within a block."""
    entry = str(Path(folder).resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def load_module(name: str, folder: str, where: str) -> ModuleType:
    """Return the module of a dotted name, imported; modules may lie in `folder` as well.

    Raises:
        RecipeError: If it raises; a `MissingModuleError` if there is none.
    """
    try:
        with _importable(folder):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            what = f"no module named {missing!r}"
            raise MissingModuleError(what, where, "install it, or correct the name") from None
        raise _raised(name, where, error) from error
    except Exception as error:
        raise _raised(name, where, error) from error


def _load_file(file: Path, where: str) -> ModuleType:
    if not file.is_file():
        fix = file_near(file) or "paths are relative to the recipe"
        raise RecipeError(f"no file {str(file)!r}", where, fix)
    # the name follows from the path, so that the file runs once and its classes can be pickled
    digest = sha256(os.fsencode(file.resolve())).hexdigest()[:8]
    name = file.stem if file.stem.isidentifier() and file.stem not in sys.modules else ""
    known = f"modswap_file_{digest}"
    if known in sys.modules:
        return sys.modules[known]
    name = name or known
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

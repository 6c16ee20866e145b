"""Build a model by the factory that the user names."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.asked.import_name import factory_call, import_object, split_arguments
from modswap.core.errors import ModswapError, RecipeError
from modswap.io.formats.container import FEWER_MODULES, modules_flaw
from modswap.ops.run.describe import one_line

_LACKING = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: .*")


@dataclass(frozen=True, slots=True)
class Factory:
    """The function that builds the model for a file of weights; `build` takes no arguments.

    `name` is what the user wrote at `where`; errors about it are of the class `error`.
    """

    build: Callable[[], Any]
    name: str
    where: str
    error: type[ModswapError]


def imported_factory(
    name: str, args: Mapping[str, Any], folder: str, where: str, error: type[ModswapError]
) -> Factory:
    """Return the factory `package.module:callable` or `file.py:callable` that a user named.

    The name may have arguments, `callable(width=2)`, literals. A relative file is looked for in
    `folder`; `args` are further keyword arguments of the call.
    """
    call = factory_call(name, where, error)
    if twice := sorted(call.kwargs.keys() & args.keys()):
        what = f"{twice[0]!r} is given twice, in the factory's brackets and in `args`"
        raise error(what, where, "keep one of them")
    found = import_object(call.reference, folder=folder, where=where)
    if not callable(found):
        raise error(f"{name!r} is {found!r:.60}, expected a callable", where, "name a function")
    return Factory(lambda: found(*call.args, **call.kwargs, **args), name, where, error)


def call_factory(factory: Factory) -> nn.Module:
    """Return the model that a factory builds.

    Raises:
        ModswapError: Of the factory's kind, if it raises, gives no model, or one whose modules are
            nested too deep.
    """
    model = result_of(factory)
    if not isinstance(model, nn.Module):
        what = f"the factory {factory.name!r} gave {type(model).__name__}, expected an nn.Module"
        raise factory.error(what, factory.where, "return the model")
    if flaw := modules_flaw(model, sys.maxsize):  # a user's own may be large
        what = f"the model of the factory {factory.name!r} cannot be used: {flaw}"
        raise factory.error(what, factory.where, FEWER_MODULES)
    return model


def result_of(factory: Factory) -> Any:
    """Return the value that a factory gives.

    Raises:
        ModswapError: Of the factory's kind, if it raises.
    """
    try:
        return factory.build()
    except ModswapError:
        raise
    except Exception as error:
        raise raised_by(factory, error) from error


def raised_by(factory: Factory, error: Exception) -> ModswapError:
    """Return the error, of the factory's kind, for an exception that its code raised."""
    what = f"the factory {factory.name!r} raised {one_line(error)}{_last_line(error)}"
    return factory.error(what, factory.where, _fix(factory, error))


def _fix(factory: Factory, error: Exception) -> str:
    """Return what to do about an error of a factory: give the arguments that it lacks, if so."""
    lacking = _LACKING.search(str(error)) if isinstance(error, TypeError) else None
    if lacking is None or _last_line(error):  # raised somewhere inside
        return "call it in a Python session to see why, or correct its args"
    given = ", ".join(f"{name}=…" for name in re.findall(r"'(\w+)'", lacking[0]))
    if factory.where == "explain":
        return f"give what it lacks, in brackets behind its name: {given}"
    start, written = split_arguments(factory.name)
    call = f"{start}({', '.join(one for one in (written[1:-1], given) if one)})"
    if factory.error is RecipeError:
        return f"give what it lacks under `args`, or write `{call}`"
    option = factory.where if factory.where.startswith("--") else "--model"
    return f'give what it lacks: `{option} "{call}"`'


def _last_line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_filename == __file__:
        return ""
    return f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"

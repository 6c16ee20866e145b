"""A metric of the user's own: `file.py:callable`, called with a model."""

import math
from collections.abc import Callable

from torch import nn

from modswap.core.asked.import_name import import_object
from modswap.core.errors import ModswapError, UsageError
from modswap.ops.heal.measures.passes import still
from modswap.ops.run.describe import one_line

OPTION = "--evaluate"


def user_metric(reference: str, folder: str = ".") -> Callable[[nn.Module], float]:
    """Return the function `package.module:callable` or `file.py:callable` that a user named.

    The function gets a model in evaluation, without gradients, and returns a number; the model is
    restored after each call. A relative file is looked for in `folder`.

    Raises:
        ModswapError: If there is no such function; on a call, a UsageError if the function raises
            or returns no finite number.
    """
    found = import_object(reference, folder=folder, where=OPTION)
    if not callable(found):
        what = f"{reference!r} is {found!r:.60}, expected a callable"
        raise UsageError(what, OPTION, "name a function that takes a model and returns a number")

    def measured(model: nn.Module) -> float:
        with still(model):
            try:
                value = found(model)
            except ModswapError:
                raise
            except Exception as error:
                what = f"{reference!r} raised {one_line(error)}"
                raise UsageError(what, OPTION, "call it with the model to see why") from error
        return _number(value, reference)

    return measured


def _number(value: object, reference: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type] # anything that a user's function returns
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        what = f"{reference!r} returned {value!r:.60}, expected a finite number"
        raise UsageError(what, OPTION, "return one number for the model")
    return number

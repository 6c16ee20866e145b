"""Fill the default dictionaries of a file, as torch's safe unpickler does not.

A default dictionary calls its factory for a key that is missing. A file may name factories that
make plain data and do nothing else, and those that the user allows by name.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from modswap.core.errors import UnsafeError
from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.walk import everything

NAME = "collections.defaultdict"
# data types that a file may name, and call by nothing but a missing key
DATA_TYPES: Mapping[str, type] = {
    f"builtins.{kind.__name__}": kind
    for kind in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}
_FILLED = frozenset((NAME, "collections.Counter", "collections.OrderedDict"))
_FACTORIES = frozenset((*_FILLED, *DATA_TYPES))
_CALLS_ITS_ARGUMENT = "_rebuild_from_type_v2"


class _Filled(type):
    """The class of `FilledDict`, which torch's unpickler takes for that of plain dictionaries."""

    def __eq__(cls, other: object) -> bool:
        return other is dict or super().__eq__(other)

    __hash__ = type.__hash__


class FilledDict(defaultdict[Any, Any], metaclass=_Filled):
    """A default dictionary that torch's unpickler fills; it is pickled as any other."""

    def __reduce__(self) -> Any:
        return defaultdict, (self.default_factory,), None, None, iter(self.items())


def filled_dict(factory: Any = None) -> FilledDict:
    """Return what `defaultdict` would, for torch's unpickler."""
    return FilledDict(defaultdict if factory is filled_dict else factory)


def refuse_factories(made: Iterable[Instance], named: Set[str], file: Path) -> None:
    """Refuse default dictionaries with factories that may run code.

    `named` are the names that the user allows in full.

    Raises:
        UnsafeError: If there is one.
    """
    for one in made:
        if str(one.what) != NAME:
            continue
        match one.args:
            case () | (None,):
                continue
            case (Name() as factory,) if str(factory) in _FACTORIES | named:
                continue
            case (Name() as factory,):
                what, fix = str(factory), f"if you trust it, --allow {factory} admits it"
            case _:
                what, fix = "an object of its own", "for a file of your own making there is --trust"
        called = f"a {NAME} would have to be built that calls {what:.200} for missing keys"
        raise UnsafeError(
            f"to load it, {called}", str(file), f"save it as a plain dictionary; {fix}"
        )


def called_names(made: Sequence[Instance]) -> frozenset[str]:
    """Return the names that a file calls, or hands to a function that calls them."""
    called = {str(one.what) for one in made}
    for one in made:
        if one.what.attribute == _CALLS_ITS_ARGUMENT:
            called |= {str(part) for part in everything(one.args) if isinstance(part, Name)}
    return frozenset(called)


def unfillable(made: Iterable[Instance]) -> frozenset[str]:
    """Return the classes of containers that torch's safe unpickler does not fill."""
    filled = (str(one.what) for one in made if one.items or one.elements)
    return frozenset(name for name in filled if name not in _FILLED)

"""Read a file of weights without the plain data beside them, which stay data in the file."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NoReturn

from modswap.core.asked.job import Policy
from modswap.core.asked.permissions import package_prefixes
from modswap.io.formats.torch.allow import python_data
from modswap.io.formats.torch.screen import Screened
from modswap.io.pickled.data import Instance
from modswap.io.pickled.names import is_plain_data
from modswap.io.pickled.values import holds_modules

_UNREACHABLE = "\nunbuilt"  # no pickle can ask for such a name


class Unbuilt:
    """An object of a file that was not built; it holds nothing."""

    def __setstate__(self, state: Any) -> None:
        """Drop the state that the file would give it."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be written: the file is rewritten as data, or not at all."""
        raise TypeError("an object that was not built cannot be written")


class UnbuiltClass:
    """A callable that a pickle gets in place of a class of plain data, or of its maker.

    Torch's safe unpickler puts items and elements into its own kinds of containers alone: objects
    that take such are containers here, and empty in the end.
    """

    def __init__(self, container: type) -> None:
        self.container = container
        self.made: list[Any] = []
        # torch calls `cls.__new__(cls, *args)` for what it takes for a class
        vars(self)["__new__"] = self._new

    def __call__(self, *_: Any) -> Any:
        """Return an object that holds nothing of the arguments."""
        self.made.append(self.container())
        return self.made[-1]

    def _new(self, _: Any, *args: Any) -> Any:
        return self(*args)

    def empty(self) -> None:
        """Take out of all objects what the file has put into them."""
        for made in self.made:
            if isinstance(made, OrderedDict):
                vars(made).clear()
            if isinstance(made, (OrderedDict, list)):
                made.clear()


def unbuilt_names(names: Sequence[str], policy: Policy, screened: Screened) -> list[str]:
    """Return the names of a file that stay unbuilt: plain data beside weights.

    All are built where the user allows one of them, or the file holds modules.
    """
    asked = {*policy.allow, *dict(policy.aliases)}
    packages = package_prefixes(policy.allow)
    plain = [name for name in names if is_plain_data(name)]
    built_anyway = python_data(plain, screened.made)
    plain = [name for name in plain if name not in built_anyway]
    built = any(name in asked or name.startswith(packages) for name in plain)
    return [] if built or not plain or holds_modules(screened.made) else plain


def unbuilt(names: Sequence[str], made: Sequence[Instance]) -> list[tuple[Any, str]]:
    """Return what torch's unpickler gets for names that stay unbuilt."""
    kinds: dict[str, type] = dict.fromkeys(names, Unbuilt)
    for instance in made:
        name = str(instance.what)
        if name in kinds and instance.items:
            kinds[name] = OrderedDict
        elif name in kinds and instance.elements:
            kinds[name] = list
    stand_ins = [(UnbuiltClass(kind), name) for name, kind in kinds.items()]
    return [*stand_ins, (Unbuilt, _UNREACHABLE)] if stand_ins else []

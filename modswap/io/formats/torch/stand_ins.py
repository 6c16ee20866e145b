"""Stand in for classes of an allowed package while torch reads a pickle.

torch's safe unpickler calls a class that it may build: its constructor, `__new__`, `__setstate__`.
A stand-in is called instead, and makes the object without any code of the class.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modswap.core.asked.package_search import is_class
from modswap.core.errors import UnsafeError
from modswap.core.words.printable import shown
from modswap.io.formats.torch.plain_classes import Kind, combines_flags, is_layer_with_new, kind_of
from modswap.io.formats.torch.shells import namespace, put_into_class, shell_of
from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.outline import values_of
from modswap.io.pickled.walk import everything, parts
from modswap.io.recognise.look import Look

_PLAIN = (bool, bytes, float, int, str, type(None))
_UNREACHABLE = "\n"  # begins a name that no pickle can ask for: in a pickle it ends one


class StandIn:
    """A callable that a pickle gets in place of a class of plain data.

    Args:
        cls: The class.
        kind: How its instances are made.
        name: Its dotted name in the file.
        file: The file, for errors.
    """

    def __init__(self, cls: type, kind: Kind, name: str, file: Path) -> None:
        self.cls, self.kind, self.name, self.file = cls, kind, name, file
        self.shell = shell_of(cls) if kind == "attributes" else None
        self.made: list[Any] = []
        # torch calls `cls.__new__(cls, *args)` for what it takes for a class
        vars(self)["__new__"] = self._new

    def __call__(self, *args: Any) -> Any:
        """Return what calling the class would give."""
        if self.kind == "enum":
            return self._member(args)
        if self.kind != "attributes" or args:
            raise self.error("its constructor would be called with arguments")
        return self._instance()

    def _new(self, _: Any, *args: Any) -> Any:
        if self.kind == "tuple":
            return tuple.__new__(self.cls, args)
        if self.kind != "attributes" or args:
            raise self.error("it would be made with arguments")
        return self._instance()

    def finish(self) -> None:
        """Give the objects that were made their own class."""
        for made in self.made:
            put_into_class(made, self.cls)

    def _instance(self) -> Any:
        shell: Any = self.shell
        made = shell()
        self.made.append(made)
        return made

    def _member(self, args: Sequence[Any]) -> Any:
        """Return the member of an enumeration that has a value; one is never made."""
        wanted = args[0] if len(args) == 1 else self
        if _is_plain(wanted):
            for member in namespace(self.cls)["_member_map_"].values():
                value = object.__getattribute__(member, "__dict__")["_value_"]
                if _is_plain(value) and _typed(value) == _typed(wanted):
                    return member
            if type(wanted) is int and combines_flags(self.cls):
                return self.cls(wanted)
        raise self.error(f"it has no member of the value {shown(wanted, 60)}")

    def error(self, why: str) -> UnsafeError:
        """Return the error for a use of the class that takes code of its own."""
        what = f"to load it, a {self.name} would have to be built, but {why}"
        fix = (
            f"if you trust that class, --allow {self.name} admits it with its code; "
            "--allow package.* admits layers and plain data"
        )
        return UnsafeError(what, str(self.file), fix).with_retry("--allow", self.name)


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is tuple and all(map(_is_plain, value)))


def _typed(value: Any) -> Any:
    """Return a value with its type, so that 1, 1.0 and true differ."""
    return tuple(map(_typed, value)) if type(value) is tuple else (type(value), value)


def standing_in(cls: type, name: str, file: Path) -> Any:
    """Return what a file may build for a class of an allowed package, or None for nothing."""
    kind = kind_of(cls)
    return cls if kind in ("layer", "known") else kind and StandIn(cls, kind, name, file)


@contextmanager
def standing(allowed: Sequence[tuple[Any, str]], look: Look) -> Iterator[list[tuple[Any, str]]]:
    """Yield the objects for torch's unpickler; afterwards, those of stand-ins get their classes.

    A class that a file only holds as a value is taken as it is.

    Raises:
        UnsafeError: If a class of plain data is built as well as held, or a layer that makes its
            instances by code of its own is given arguments.
    """
    objects = [*allowed]
    if any(_asks(value) for value, _ in allowed):
        built, held, given = _uses(values_of(look)[0])
        objects = [entry for value, name in allowed for entry in _entries(value, name, built, held)]
        for value, name in allowed:
            if name in given and _asks(value) and not isinstance(value, StandIn):
                what = f"to load it, the `__new__` of {name} would be called with arguments"
                raise UnsafeError(what, str(look.file), "do not load it unless it is your own")
    yield objects
    for value, _ in allowed:
        if isinstance(value, StandIn):
            value.finish()


def _asks(value: Any) -> bool:
    """Return whether the use of a class in the file decides how it may be built."""
    return isinstance(value, StandIn) or (is_class(value) and is_layer_with_new(value))


def _entries(value: Any, name: str, built: set[str], held: set[str]) -> list[tuple[Any, str]]:
    if not isinstance(value, StandIn):
        return [(value, name)]
    if name not in built:
        return [(value.cls, name)]
    if name in held:
        raise value.error("the file also holds the class itself")
    shell = [(value.shell, f"{_UNREACHABLE}{name}")] if value.shell else []
    return [(value, name), *shell]


def _uses(payload: Any) -> tuple[set[str], set[str], set[str]]:
    """Return the names that a payload builds, holds as values, and gives arguments."""
    built: set[str] = set()
    held: set[str] = set()
    given: set[str] = set()
    for value in everything(payload):
        what = value.what if isinstance(value, Instance) else None
        if what is not None:
            built.add(str(what))
            given |= {str(what)} if value.args else set()
        held |= {str(part) for part in parts(value) if isinstance(part, Name) and part is not what}
    return built, held, given

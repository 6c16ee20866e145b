"""Write the making of a new module as a call."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from modswap.core.decided.blueprint import Blueprint
from modswap.ops.code.building.wanted import NewModule
from modswap.ops.code.editing.locate import Use, held_by

ADAPTERS, INSERTIONS = "modswap.nn.adapters", "modswap.nn.insertion"
BLUEPRINTS, FOLDS = "modswap.core.decided.blueprint", "modswap.nn.folded_layers"


class ClassNames(Protocol):
    """The names of classes in a file."""

    def of(self, new: NewModule) -> str:
        """Return the name of a new module's class."""

    def name(self, module: str, name: str) -> str:
        """Return the name of something in a module."""


@dataclass(frozen=True, slots=True)
class CallText:
    """A call as text, whose arguments may be calls."""

    head: str
    args: "tuple[tuple[str, str | CallText], ...]"  # keyword, empty for none, and value
    tail: str = ""  # behind the closing bracket

    def __str__(self) -> str:
        inner = ", ".join(f"{name}={value}" if name else str(value) for name, value in self.args)
        return f"{self.head}({inner}){self.tail}"

    def wrapped(self, room: int, form: "Form") -> str:
        """Return the call on one line if that has room, else with its arguments on further ones."""
        if len(str(self)) <= room or not self.args:
            return str(self)
        inside = Form(form.indent + form.unit, form.unit, form.newline, form.limit)
        plain = str(CallText("", self.args))[1:-1]
        if len(inside.indent) + len(plain) <= form.limit:
            lines = [plain]
        else:
            lines = [f"{self._argument(one, inside)}," for one in self.args]
        body = form.newline.join(f"{inside.indent}{line}" for line in lines)
        return f"{self.head}({form.newline}{body}{form.newline}{form.indent}){self.tail}"

    @staticmethod
    def _argument(argument: "tuple[str, str | CallText]", form: "Form") -> str:
        name, value = argument
        lead = f"{name}=" if name else ""
        if isinstance(value, str):
            return f"{lead}{value}"
        room = form.limit - len(form.indent) - len(lead) - 1
        return f"{lead}{value.wrapped(room, form)}"


@dataclass(frozen=True, slots=True)
class Form:
    """The indent, the line ends and the longest line of a file."""

    indent: str  # of the statement
    unit: str
    newline: str
    limit: int  # characters of a line


@dataclass(frozen=True, slots=True)
class Spelled:
    """The text that makes a new module, and the observed arguments in it that are numbers."""

    call: CallText
    literals: tuple[str, ...]


def spell(new: NewModule, names: ClassNames, uses: Sequence[Use] = ()) -> Spelled:
    """Return the making of a new module; `uses` are the turns of the old call that it replaces.

    An observed argument is the old call's own expression where that held the number at each turn.
    Arguments that are the class's defaults and that no rule names are left out.
    """
    plain = defaults(new.cls)
    written = {n: v for n, v in _in_order(new) if n in new.named or not _is(plain.get(n, ...), v)}
    held = {name: held_by(uses, name) if uses else None for name in written}
    args = tuple((name, held[name] or literal(value)) for name, value in written.items())
    literals = tuple(
        f"{name}={value}"
        for name, value in written.items()
        if held[name] is None and name in new.observed and type(value) is int
    )
    call = _folded(CallText(names.of(new), args), new.blueprint, names)
    call = _adapted(call, new.blueprint, names)
    return Spelled(_joined(call, new, names), literals)


def _is(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _in_order(new: NewModule) -> list[tuple[str, Any]]:
    """Return the arguments in the order of the constructor's parameters."""
    order = {name: number for number, name in enumerate(inspect.signature(new.cls).parameters)}
    args = new.blueprint.args
    return sorted(args.items(), key=lambda one: order.get(one[0], len(order)))


def defaults(cls: type[nn.Module]) -> Mapping[str, Any]:
    """Return the defaults of a class's constructor."""
    known = inspect.signature(cls).parameters.values()
    return {one.name: one.default for one in known if one.default is not one.empty}


def literal(value: Any) -> str:
    """Return plain data as Python, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else repr(value)
    if isinstance(value, Mapping):
        items = (f"{literal(key)}: {literal(one)}" for key, one in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, tuple):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _folded(call: CallText, blueprint: Blueprint, names: ClassNames) -> CallText:
    """Return a call with the folding around it of layers that are no longer in the module."""
    if not blueprint.folds:
        return call
    head = names.name(BLUEPRINTS, "LayerFold")
    made = [{name: getattr(one, name) for name in one.__slots__} for one in blueprint.folds]
    texts = "".join(f"{_changed(head, type(blueprint.folds[0]), one)}, " for one in made)
    folds = f"({texts.rstrip() if len(made) == 1 else texts[:-2]})"
    return CallText(names.name(FOLDS, "refolded"), (("", call), ("", folds)))


def _adapted(call: CallText, blueprint: Blueprint, names: ClassNames) -> CallText:
    """Return a call with the adapter around it that its site needs."""
    if blueprint.fits:
        return call
    args: list[tuple[str, str | CallText]] = [("", call)]
    args += [("layout", literal(blueprint.layout)), ("wants", literal(blueprint.wants))]
    args += [
        (name, literal(value))
        for name in ("ignores", "repeats")
        if (value := getattr(blueprint, name))
    ]
    added = blueprint.adaptation
    if added is not None:
        made = {name: getattr(added, name) for name in added.__slots__}
        head = names.name(BLUEPRINTS, "Adaptation")
        args.append(("adaptation", _changed(head, type(added), made)))
    tail = f".of_grid({literal(blueprint.grid)})" if blueprint.grid is not None else ""
    tail += f".without({literal(blueprint.drops)})" if blueprint.drops else ""
    return CallText(names.name(ADAPTERS, "SiteAdapter"), tuple(args), tail)


def _joined(call: CallText, new: NewModule, names: ClassNames) -> CallText:
    """Return a call with the gate around it that joins it to the module beside it."""
    joint = new.blueprint.joint
    if joint is None:
        return call
    made = {name: getattr(joint, name) for name in joint.__slots__}
    text = _changed(names.name("modswap.core.seen.joint", "Joint"), type(joint), made)
    return CallText(names.name(INSERTIONS, "Insertion"), (("", call), ("", text)))


def _changed(head: str, cls: type, made: Mapping[str, Any]) -> CallText:
    """Return the making of a record, without the fields that are its defaults."""
    known = inspect.signature(cls).parameters
    args = tuple((n, literal(v)) for n, v in made.items() if known[n].default != v)
    return CallText(head, args)

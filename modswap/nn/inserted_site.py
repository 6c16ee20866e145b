"""Modules that have others put in beside them: their class is a subclass of their own class.

No name, attribute or method of such a module changes; the new modules are children of it that
containers do not count. Copies, whole files of `torch.save`, compilers and exporters take it as
they take the plain module.
"""

import copyreg
import inspect
import types
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, ClassVar, cast

import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.nn.insertion import Insertion, Probe, changed_at, changed_inputs

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_EDITS = (
    *("__setitem__", "__delitem__", "append", "insert", "extend", "pop", "__iadd__", "__imul__"),
    *("update", "clear"),
)


class InsertedSite(nn.Module):
    """First base of the class of a module that has others put in beside it."""

    __slots__ = ()
    _base: ClassVar[type[nn.Module]]  # the module's own class
    _inserted: tuple[str, ...] = ()  # names of the children put in, in the order in which they run
    # what a host has put in place of forward, as Ultralytics does by `m.forward = m.forward_fuse`
    _inner: Callable[..., Any] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the module's output, with what the modules beside it make of it."""
        beside = [cast("Insertion", self._modules[name]) for name in self._inserted]
        for new in beside:
            if new.place == "before":
                args, kwargs = changed_inputs(args, kwargs, new.source, new)
        # before the old module, which may work in place
        branches = [(new, new.branch(args, kwargs)) for new in beside if new.is_branch]
        output = self._inner(*args, **kwargs) if self._inner else super().forward(*args, **kwargs)
        for new, branch in branches:
            output = changed_at(output, new.target, partial(new.joined, new=branch))
        for new in beside:
            if isinstance(new, Probe):
                new.pass_by(output, args, kwargs)
            elif new.place == "after":
                output = changed_at(output, new.target, new)
        return output

    def __setattr__(self, name: str, value: Any) -> None:
        """Take a method of the module's own in place of its forward; the others run around it."""
        name = "_inner" if name == "forward" and _is_own_method(self, value) else name
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute, or what was put in place of forward."""
        super().__delattr__("_inner" if name == "forward" and name not in vars(self) else name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return how to make the module again: of its own class, with the others beside it.

        Raises:
            TypeError: If its class copies itself in a way of its own.
        """
        made = super().__reduce_ex__(protocol)
        if not isinstance(made, tuple) or made[0] is not copyreg.__newobj__ or len(made[1]) != 1:  # type: ignore[attr-defined] # typeshed lacks it
            raise TypeError(f"{type(self).__name__} has a __reduce__ of its own")
        return (blank, (self._base,), *made[2:])


class InsertedContainer(InsertedSite):
    """First base of such a class of containers: the children put in are no members."""

    __slots__ = ()

    def _members(self) -> dict[str, nn.Module | None]:
        return {name: m for name, m in self._modules.items() if name not in self._inserted}

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._modules) - len(self._inserted)

    def __iter__(self) -> Iterator[Any]:
        """Return the members in order, or their names."""
        members = self._members()
        return iter(members if isinstance(self, nn.ModuleDict) else members.values())

    def __getitem__(self, key: Any) -> Any:
        """Return a member; a slice is a plain container of them."""
        if isinstance(key, int) and not isinstance(self, nn.ModuleDict):
            return list(self._members().values())[key]
        made = _aside("__getitem__")(self, key)
        if isinstance(key, slice):
            made.__class__ = self._base
        return made

    def __contains__(self, key: object) -> bool:
        """Return whether there is such a member, or name of one."""
        members = self._members()
        return key in (members if isinstance(self, nn.ModuleDict) else members.values())

    def keys(self) -> Any:
        """Return the names of the members."""
        return self._members().keys()

    def values(self) -> Any:
        """Return the members."""
        return self._members().values()

    def items(self) -> Any:
        """Return the names and the members."""
        return self._members().items()


def _aside(name: str) -> Callable[..., Any]:
    """Return a method of the base that runs while the children put in are not there."""

    def method(self: InsertedContainer, *args: Any, **kwargs: Any) -> Any:
        names = self._inserted
        kept = {name: self._modules.pop(name) for name in names if name in self._modules}
        self._inserted = ()
        try:
            return getattr(self._base, name)(self, *args, **kwargs)
        finally:
            self._modules.update(kept)
            self._inserted = names

    method.__name__ = name
    return method


@cache
def class_of_site(base: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of a class for modules that have others put in beside them.

    It is the same one each time, so that copies are of the same class.
    """
    container = issubclass(base, CONTAINERS)
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_base": base,
    }
    if container:
        members |= {name: _aside(name) for name in _EDITS if hasattr(base, name)}
    first = InsertedContainer if container else InsertedSite
    metaclass: Any = type(base)
    made: Any = metaclass(base.__name__, (first, base), members)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return InsertedSite.forward(self, *args, **kwargs)

    # not functools.wraps: torch.jit.script would unwrap it, and compile the old forward
    forward.__signature__ = inspect.signature(base.forward)  # type: ignore[attr-defined] # functions take any attribute
    made.forward = forward
    return cast("type[nn.Module]", made)


def blank(base: type[nn.Module]) -> nn.Module:
    """Return an object of a class's subclass, without any attributes: files hold such calls.

    Raises:
        TypeError: If it is no class of modules.
    """
    given: Any = base
    if not isinstance(given, type) or not issubclass(given, nn.Module):
        raise TypeError(f"expected a class derived from torch.nn.Module, got {given!r:.80}")
    return base.__new__(class_of_site(base))  # type: ignore[arg-type] # classes can be hashed


def refusal(site: nn.Module, path: str) -> ShapeError | None:
    """Return the error for a module that can have no others beside it; None for any other."""
    cls = own_class(site)
    own = cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__
    if not path or isinstance(site, torch.jit.ScriptModule) or own:
        why = (
            "the model itself" if not path else f"a {cls.__name__}, which copies itself in its way"
        )
        fix = "choose a module inside it, or around it"
        return ShapeError(f"nothing can be put in beside {why}", path, fix)
    return None


def put_in(site: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in beside another one, which gets the class for that."""
    if not isinstance(site, InsertedSite):
        own = vars(site).pop("forward", None)
        site.__class__ = class_of_site(type(site))  # type: ignore[arg-type] # classes can be hashed
        if own is not None:  # fused before: it is what the module computes by itself
            vars(site)["_inner"] = own
    site._modules[name] = new
    vars(site)["_inserted"] = (*cast("InsertedSite", site)._inserted, name)


def take_out(site: nn.Module, name: str) -> nn.Module:
    """Take a module that was put in out again and return it; the class is plain after the last."""
    opened = cast("InsertedSite", site)
    new = site._modules.pop(name)
    left = tuple(one for one in opened._inserted if one != name)
    vars(site)["_inserted"] = left
    if not left:
        del vars(site)["_inserted"]
        inner = vars(site).pop("_inner", None)
        site.__class__ = opened._base
        if inner is not None:
            vars(site)["forward"] = inner
    return cast("nn.Module", new)


def own_class(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module as it is without others beside it."""
    return module._base if isinstance(module, InsertedSite) else type(module)


def inserted_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the children that were put in beside a module."""
    return module._inserted if isinstance(module, InsertedSite) else ()


def without_others(module: nn.Module) -> nn.Module:
    """Return a module as it is without others beside it; weights and children are shared."""
    if not isinstance(module, InsertedSite):
        return module
    plain = module._base.__new__(module._base)
    held = {name: value for name, value in vars(module).items() if name != "_inserted"}
    inner = held.pop("_inner", None)
    vars(plain).update(held)
    names = module._inserted
    vars(plain)["_modules"] = {n: m for n, m in module._modules.items() if n not in names}
    if inner is not None:
        vars(plain)["forward"] = inner
    return plain


def _is_own_method(module: nn.Module, value: Any) -> bool:
    """Return whether a value is a method of a module's class; a function around one is not."""
    if not isinstance(value, types.MethodType) or value.__self__ is not module:
        return False
    held = getattr(type(module), value.__name__, None)
    return value.__name__ != "forward" and getattr(held, "__func__", held) is value.__func__

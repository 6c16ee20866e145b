"""A module beside another one: after it, before it, around it, or faded in for it."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from modswap.core.seen.joint import Form, Joint, Key, Place
from modswap.nn.kernels.tracing import traced, transformed
from modswap.seeds import kept_random_state

MAX_AXES = 8  # behind that of the channels


def _is_place_inside(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(key) in (int, str) for key in value)


# what the attributes may be in a file, which anybody can have written
_FITTING: Mapping[str, Callable[[Any], bool]] = {
    "place": lambda value: type(value) is str and value in get_args(Place),
    "form": lambda value: type(value) is str and value in get_args(Form),
    "axes": lambda value: type(value) is int and 0 <= value <= MAX_AXES,
    "source": _is_place_inside,
    "target": _is_place_inside,
}


class Insertion(nn.Module):
    """A new module, and the gate through which its output reaches what is kept.

    Where x is what is kept, and f the new module, the forms are

    - `add`: x + gate * f(x), for a module that computes something to be added;
    - `scale`: x + gate * (f(x) - x), for a module that multiplies its input by weights;
    - `blend`: (1 - gate) * old(x) + gate * f(x), for a module that is to take an old one's place;
    - `plain`: f(x), or x + f(x) around a module; there is no gate;
    - `sum`: x + f(x); there is no gate;
    - `none`: x, for a place where nothing is put yet.

    A gate of 0 keeps x in every bit, signed zeros, infinities and NaNs included, for any f;
    while all gates are 0, no gradient of f reaches x, and in training the random numbers that f
    draws are not missing to others.

    Shape:
        x (N, C, …) or (N, …, C), as `joint.axes` says; the same shape is returned.

    Args:
        module: The new module f.
        joint: How it is joined to the module beside it.

    Raises:
        ValueError: If the joint says more axes than a tensor has.
    """

    def __init__(self, module: nn.Module, joint: Joint) -> None:
        super().__init__()
        if not 0 <= joint.axes <= MAX_AXES:
            raise ValueError(f"axes is {joint.axes}, expected at most {MAX_AXES}")
        self.module = module
        # plain values, so that a file can hold it without further classes
        self.place: Place = joint.place
        self.form: Form = joint.form
        self.source: tuple[Key, ...] = joint.source
        self.target: tuple[Key, ...] = joint.target
        self.axes = joint.axes
        self.gate: nn.Parameter | None = None
        if joint.has_gate:
            self.gate = nn.Parameter(torch.zeros(joint.channels))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes that a file holds.

        Raises:
            ValueError: If one of them is nothing that a joint has.
        """
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch gives it no types
        for name, fits in _FITTING.items():
            if name in state and not fits(state[name]):
                kind = type(state[name]).__name__
                fault = f"has a value that it cannot have, of class {kind}"
                raise ValueError(f"the attribute {name!r} of an Insertion {fault}")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return x with the new module's output in it; around a module, that output alone.

        Raises:
            ValueError: If there is no tensor where the new module takes one.
        """
        if self.place == "instead":
            return self._guarded(args, kwargs)
        (x,) = args
        new = self._new(x)
        return new if self.place == "around" else self.joined(x, new)

    @property
    def is_branch(self) -> bool:
        """Return whether it runs on the inputs of the module beside it."""
        return self.place in {"around", "instead"}

    def branch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the new module's output for the inputs of the module beside it."""
        if self.place == "around":
            return self(input_at(args, kwargs, self.source))
        return self(*args, **kwargs)

    def _new(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            what = f"the inserted module takes a tensor, and is given {type(x).__name__}"
            raise ValueError(what)  # noqa: TRY004 - the caller's values, as in a module's own checks
        return self._guarded((x,), {})

    def _guarded(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return f's output; while all gates are 0, its gradients do not reach the inputs."""
        if self.gate is None:
            return self.module(*args, **kwargs)
        some = (self.gate != 0).any()
        made: list[tuple[torch.Tensor, torch.Tensor]] = []

        def kept(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                return value
            for old, copy in made:
                if old is value:  # what is one tensor stays one, as in self-attention
                    return copy
            # `where` also copies: an f that works in place cannot change what is kept
            made.append((value, torch.where(some, value, value.detach())))
            return made[-1][1]

        with self._own_random_state(some):
            return self.module(*map(kept, args), **{name: kept(v) for name, v in kwargs.items()})

    def _own_random_state(self, some: torch.Tensor) -> AbstractContextManager[None]:
        """Return a block after which the random state is as it was, if all gates are 0."""
        if not self.training or torch.compiler.is_compiling() or traced():
            return nullcontext()
        known = type(some) is torch.Tensor and not isinstance(some, FakeTensor)
        if not known or some.is_meta or transformed(some) or _capturing():
            return nullcontext()
        return nullcontext() if bool(some) else kept_random_state()

    def joined(self, x: Any, new: Any) -> Any:
        """Return what is kept, x, with the new module's output in it."""
        if self.form == "none":
            return x
        if self.form == "blend":
            return _blended(x, new, self._mixed)
        if self.gate is None:
            return x + new if self.form == "sum" or self.place == "around" else new
        return self._mixed(x, new)

    def _mixed(self, x: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if self.gate is None:
            return new
        gate = self.gate.view(-1, *[1] * self.axes)
        if _plain(x, new, gate):
            closed = gate == 0
            if bool(closed.all()):
                return x
            if not bool(closed.any()):
                return x.addcmul(gate, new) if self.form == "add" else x.lerp(new, gate)
        if self.form != "add":
            new = new - x
        # 0 * NaN is NaN, so a closed gate takes finite numbers alone
        new = torch.where(gate == 0, torch.nan_to_num(new, 0.0, 0.0, 0.0), new)
        # x + 0 * f is not x where x is -0; x - (+0) is, for every x, and 0 - (+-0) is +0
        return x - (0.0 - gate * new).type_as(x)

    def extra_repr(self) -> str:
        """Return the place, the form, and the tensors that are meant."""
        parts: list[str] = [self.place, self.form]
        parts += [f"source={self.source}"] if self.source else []
        parts += [f"target={self.target}"] if self.target else []
        return ", ".join(parts)


class Probe(Insertion):
    """A place where nothing is put yet: the model computes what it does without it.

    A pass sees what a module there would be given, and has to return.
    """

    def __init__(self, joint: Joint) -> None:
        super().__init__(nn.Identity(), joint)
        self._output: Any = None

    @property
    def is_branch(self) -> bool:
        """Return false: it runs when the module beside it has run."""
        return False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return x; of a branch, what the module beside it returned."""
        branch = self.place in {"around", "instead"}
        return self._output if branch else next(iter((*args, *kwargs.values())))

    def pass_by(self, output: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Show what a module would be given here, and the output of the module beside it."""
        if self.place == "before":
            return  # it has run
        for key in self.target:
            output = at(output, key)
        self._output = output
        try:
            if self.place == "after":
                self(output)
            else:
                self.branch(args, kwargs)
        finally:
            self._output = None


def _plain(*tensors: torch.Tensor) -> bool:
    """Return whether tensors of one dtype on the CPU have values to be read, and nobody watches.

    Gradients, compilers, exporters, transforms and modes take the form that reads no value.
    """
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or traced()
        or any(type(t) not in {torch.Tensor, nn.Parameter} for t in tensors)
        or any(not t.is_cpu or t.dtype != tensors[0].dtype for t in tensors)
        or _modes()
        or transformed(*tensors)
    )


def _modes() -> int:
    """Return the number of modes that see operators or functions; torch has no public name."""
    internals: Any = torch._C  # noqa: SLF001 - as said above
    running: int = internals._len_torch_dispatch_stack() + internals._len_torch_function_stack()  # noqa: SLF001 - as said above
    return running


def _capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _blended(old: Any, new: Any, mix: Callable[[torch.Tensor, torch.Tensor], Any]) -> Any:
    """Return an old output with a new one of the same structure in it."""
    if isinstance(old, torch.Tensor):
        return mix(old, new) if old.is_floating_point() else old
    if isinstance(old, (tuple, list)) and isinstance(new, (tuple, list)):
        pairs = zip(old, new, strict=True)
        return rebuilt(old, [_blended(was, now, mix) for was, now in pairs])
    return old


def rebuilt(old: Any, items: list[Any]) -> Any:
    """Return a list or tuple of the old one's class, with other items."""
    return type(old)(*items) if hasattr(old, "_fields") else type(old)(items)


def changed_at(value: Any, path: tuple[Key, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy of nested containers in which the value at a path is changed.

    Raises:
        ValueError: If there is no such place.
    """
    if not path:
        return change(value)
    key, rest = path[0], path[1:]
    try:
        inner = changed_at(at(value, key), rest, change)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(f"there is no {key!r} in a {type(value).__name__}") from error
    if isinstance(value, Mapping):
        made = value.copy()  # type: ignore[attr-defined] # dictionaries have it
        made[key] = inner
        return made
    if isinstance(value, (list, tuple)):
        names = getattr(value, "_fields", ())
        place = names.index(key) if key in names else int(key)
        return rebuilt(value, [inner if n == place else item for n, item in enumerate(value)])
    return dataclasses.replace(value, **{str(key): inner})


def at(value: Any, key: Key) -> Any:
    """Return the item or attribute of a container."""
    if isinstance(key, str) and not isinstance(value, Mapping):
        return getattr(value, key)
    return value[key]


def input_at(args: tuple[Any, ...], kwargs: Mapping[str, Any], path: tuple[Key, ...]) -> Any:
    """Return the input of a call at a path: the argument, and places inside it.

    Raises:
        ValueError: If there is no such input.
    """
    found: list[Any] = []

    def note(value: Any) -> Any:
        found.append(value)
        return value

    changed_inputs(args, kwargs, path, note)
    return found[0]


def changed_inputs(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    path: tuple[Key, ...],
    change: Callable[[Any], Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call, that at a path changed.

    Raises:
        ValueError: If there is no such argument.
    """
    key, rest = path[0], path[1:]
    if isinstance(key, int) and key < len(args):
        others = list(args)
        others[key] = changed_at(args[key], rest, change)
        return tuple(others), dict(kwargs)
    if key in kwargs:
        return args, {**kwargs, str(key): changed_at(kwargs[str(key)], rest, change)}
    raise ValueError(f"the inserted module takes the input {key!r}, which this call lacks")

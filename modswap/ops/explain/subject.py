"""Find the module to explain, and an input for it: of the catalogue, of a file, or of a class."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.import_name import factory_call, import_object
from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import ExplainError, ModswapError, UnreachedError, UsageError
from modswap.core.explained.target import CLASS, FILE, NAME, Target
from modswap.core.explained.words import Words
from modswap.core.kept.found_input import FoundInput
from modswap.core.progress import Progress, silent
from modswap.core.words.nearest import did_you_mean
from modswap.live_values import live_tensors, map_tensors
from modswap.nn import CATALOGUE
from modswap.nn.texts import LESSONS
from modswap.ops.explain.passes import Forward, copied
from modswap.ops.explain.picture import NORMALISED, read_picture
from modswap.ops.first_input.find import find_for, find_input
from modswap.ops.load.factory import Factory, call_factory
from modswap.ops.load.model import Loaded
from modswap.ops.reopen import reopen
from modswap.ops.run.describe import one_line
from modswap.ops.run.devices import device_of
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.run.isolation import set_mode, untouched
from modswap.seeds import seeded

SEED = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A module to explain, with the options that make it.

    Args:
        target: The module.
        subject: Its file, and how that is loaded; the dummy inputs.
        settings: Arguments of the constructor.
        picture: A file with the picture that the model gets, in place of a dummy input.
    """

    target: Target
    subject: Subject
    settings: Mapping[str, Any] = field(default_factory=dict)
    picture: Path | None = None


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call of the module to explain.

    Args:
        forward: The call.
        title: The module in words.
        args: Arguments of its constructor; None where they are not known.
        notes: Where the input comes from, and which of several calls it is.
        size: Width and height of the model's picture; None where it has none.
        png: The picture, where one was given.
    """

    forward: Forward
    title: str
    args: Mapping[str, Any] | None = None
    notes: tuple[Words, ...] = ()
    size: tuple[int, int] | None = None
    png: bytes | None = None


def found(asked: Asked, progress: Progress = silent) -> FoundCall:
    """Return the module to explain, with an input for it.

    Raises:
        UsageError: If there is no such module, or its arguments or its input do not fit.
        ModswapError: If its file cannot be loaded, as `reopen` says.
    """
    if asked.picture is not None and asked.target.kind != FILE:
        what = "a picture goes into the model of a file"
        raise UsageError(what, "--image", "name a module in a file: FILE:PATH")
    if asked.target.kind == NAME:
        return _of_catalogue(asked)
    if asked.target.kind == CLASS:
        return _of_class(asked, progress)
    if asked.settings:
        what = "a module in a file has its arguments already"
        raise UsageError(what, "--set", "leave --set out, or name the class in place of the file")
    return _of_file(asked, progress)


def _of_catalogue(asked: Asked) -> FoundCall:
    name = CATALOGUE.spelled(asked.target.text)
    if name is None:
        what = f"no module {asked.target.text!r:.80} in the catalogue"
        fix = f"{CATALOGUE.advice(asked.target.text)}; a module in a file is FILE:PATH"
        if asked.target.text.endswith(".py"):
            fix = f"name the class in it: {asked.target.text}:Class"
        raise UsageError(what, "explain", fix)
    lesson = LESSONS.get(name)
    if lesson is None:
        what = f"{name!r} is the row of another package, without a typical size"
        raise UsageError(what, "explain", "name its class, package.module:Class, and its arguments")
    args = {**lesson.example, **asked.settings}
    module = _built(CATALOGUE[name].module, args)
    inputs = asked.subject.inputs or (TensorInput(shape=lesson.shape(args)),)
    return FoundCall(
        _forward(module, DummyCall(inputs, {})), _title(name, args), _all(module, args)
    )


def _built(cls: Any, args: Mapping[str, Any]) -> nn.Module:
    """Return a module of a class; a wrong argument is a `UsageError`."""
    known = [name for name in inspect.signature(cls).parameters if name != "self"]
    unknown = next((name for name in args if name not in known), None)
    if unknown is not None:
        fix = did_you_mean(unknown, known) or f"it has {', '.join(known)}"
        raise UsageError(f"{cls.__name__} has no argument {unknown!r:.60}", "--set", fix)
    try:
        with seeded(SEED):
            module: nn.Module = cls(**args)
    except (ValueError, TypeError) as error:
        what = f"{cls.__name__} does not take these arguments: {one_line(error)}"
        raise UsageError(what, "--set", "correct the values") from error
    set_mode(module, training=False)
    return module


def _title(name: str, args: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})"


def _all(module: nn.Module, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor, those left out by their defaults."""
    bound = inspect.signature(type(module)).bind_partial(**args)
    bound.apply_defaults()
    return dict(bound.arguments)


def _of_class(asked: Asked, progress: Progress) -> FoundCall:
    text = asked.target.text
    call = factory_call(text, "explain", UsageError)
    made = import_object(call.reference, folder=str(Path.cwd()), where="explain")
    kwargs = {**call.kwargs, **asked.settings}
    args: dict[str, Any] | None = None
    if isinstance(made, nn.Module):
        module, title = made, text
    else:
        module = _made(made, text, call.args, kwargs)
        title = f"{type(module).__name__}({', '.join(_written(call.args, kwargs))})"
        if isinstance(made, type):
            bound = inspect.signature(made).bind_partial(*call.args, **kwargs)
            bound.apply_defaults()
            args = dict(bound.arguments)
    set_mode(module, training=False)
    if asked.subject.inputs:
        return FoundCall(_forward(module, DummyCall(asked.subject.inputs, {})), title, args)
    progress("looking for an input that fits")
    first = find_for(module, "--input")
    return FoundCall(_forward(module, first.calls[0]), title, args, (_taken(first.record),))


def _made(made: object, text: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module:
    if getattr(made, "__name__", "") == "<lambda>" or not callable(made):
        kind = "a lambda" if callable(made) else f"of the type {type(made).__name__}"
        what = f"{text!r:.120} is {kind}, expected a class of modules"
        raise ExplainError(what, "explain", "name an nn.Module, or a function that builds one")

    with seeded(SEED):
        return call_factory(Factory(partial(made, *args, **kwargs), text, "explain", UsageError))


def _written(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    return [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]


def _forward(module: nn.Module, call: DummyCall) -> Forward:
    dtype = pass_dtype(module, Case(call))
    if dtype is not None:
        module.to(dtype)
    args, kwargs = call.live(SEED, dtype, device_of(module))
    return Forward(module, args, kwargs)


def _of_file(asked: Asked, progress: Progress) -> FoundCall:
    subject, path = asked.subject, asked.target.path
    progress(f"loading {subject.file}")
    loaded = reopen(subject)
    model = loaded.model
    module = _module_at(model, path, str(subject.file))
    set_mode(model, training=False)
    given = _input_of(asked, loaded, progress)
    title = f"{type(module).__name__} at {path or 'the top'} of {subject.file.name}"
    forward, notes = given.forward, given.notes
    if path:
        forward, calls = _captured(given.forward, module, path)
        notes = (*notes, _often(calls)) if calls > 1 else notes
    return replace(given, forward=forward, title=title, notes=notes)


def _often(calls: int) -> Words:
    return Words(
        f"it is called {calls} times, the first call is shown",
        f"该模块被调用 {calls} 次，此处显示第一次",
    )


def _input_of(asked: Asked, loaded: Loaded, progress: Progress) -> FoundCall:
    """Return the call of a file's model: with the picture, the dummy input given, or one found."""
    call = DummyCall(asked.subject.inputs, {})
    notes: tuple[Words, ...] = ()
    if not asked.subject.inputs:
        progress("looking for an input that fits")
        first = find_input(loaded, "--input")
        call, notes = first.calls[0], (_taken(first.record),)
    forward = _forward(loaded.model, call)
    given = (forward.args, dict(forward.kwargs))
    taken = next((one for one in live_tensors(given) if one.ndim == 4), None)
    size = None if taken is None else (taken.shape[3], taken.shape[2])
    if asked.picture is None:
        return FoundCall(forward, "", None, notes, size)
    picture = read_picture(asked.picture, () if taken is None else tuple(taken.shape))
    args, kwargs = map_tensors(lambda one: picture.tensor.to(one) if one is taken else one, given)
    words = Words(*(one.format(*(size or ())) for one in NORMALISED))
    forward = replace(forward, args=tuple(args), kwargs=kwargs)
    return FoundCall(forward, "", None, (words,), size, picture.png)


def _taken(record: FoundInput) -> Words:
    """Return which input was found, and why it was taken."""
    return Words(record.note, f"没有给出输入：使用 {record.shown}（{record.why}）")


def _module_at(model: nn.Module, path: str, file: str) -> nn.Module:
    places = dict(model.named_modules(remove_duplicate=False))
    if path not in places:
        fix = did_you_mean(path, places) or f"`modswap tree {file}` lists the paths"
        raise UsageError(f"no module {path!r:.120} in the model", file, fix)
    module: nn.Module = places[path]
    return module


def _captured(whole: Forward, module: nn.Module, path: str) -> tuple[Forward, int]:
    """Return the first call of a module in a pass of its model, and how many there are."""
    calls: list[Forward] = []

    def note(_: nn.Module, args: Any, kwargs: Any) -> None:
        calls.append(Forward(module, *copied(args, dict(kwargs))) if not calls else calls[0])

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with untouched(whole.module, training=False), seeded(SEED), torch.no_grad():
            whole.run()
    except ModswapError:
        raise
    except Exception as error:
        what = f"the model refuses the input: {one_line(error)}"
        raise UsageError(what, "--input", "give an input that the model takes") from error
    finally:
        handle.remove()
    if not calls:
        what = "the pass does not call it"
        raise UnreachedError(what, path, "give an input with which the model calls it")
    return calls[0], len(calls)

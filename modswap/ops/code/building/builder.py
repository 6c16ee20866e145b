"""The call that builds a model, as the user named it or as its class allows."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.import_name import factory_call, split_arguments, split_reference
from modswap.core.asked.job import Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.errors import ModswapError, RecipeError, UsageError
from modswap.ops.load.factory import Factory, call_factory, imported_factory

HOW = 'say how to build it: `--model "package.module:callable(width=64)"`'


@dataclass(frozen=True, slots=True)
class Builder:
    """A call that builds a model.

    Args:
        reference: `package.module:callable` or `file.py:callable`, with arguments or without.
        folder: The folder for relative files.
        where: The place of the reference, for errors.
        args: Further keyword arguments, plain data.
        error: The class of errors about it.
    """

    reference: str
    folder: str
    where: str
    args: Mapping[str, Any] = field(default_factory=dict)
    error: type[ModswapError] = UsageError

    def __call__(self) -> nn.Module:
        """Return the model, built anew."""
        factory = imported_factory(self.reference, self.args, self.folder, self.where, self.error)
        return call_factory(factory)

    def __str__(self) -> str:
        """Return the call as the user would write it."""
        reference, written = split_arguments(self.reference)
        given = ", ".join(f"{name}={value!r}" for name, value in self.args.items())
        inner = ", ".join(one for one in (written[1:-1], given) if one)
        return f"{reference}({inner})"

    @property
    def parts(self) -> tuple[str, str]:
        """Return the file or the module, and the name in it."""
        call = factory_call(self.reference, self.where, self.error)
        return split_reference(call.reference, self.where)

    @property
    def name(self) -> str:
        """Return the bare name of what is called."""
        return self.parts[1]

    def asked(self) -> str:
        """Return the builder as JSON, for another process."""
        known = {"reference": self.reference, "folder": self.folder, "where": self.where}
        try:
            return json.dumps({**known, "args": dict(self.args)})
        except (TypeError, ValueError) as error:
            what = "the factory's arguments are no plain data"
            raise UsageError(what, self.where, "write a function that needs none") from error


@dataclass(frozen=True, slots=True)
class ConfigBuilder(Builder):
    """A call of a class whose only argument is a configuration of plain data.

    Args:
        config: The module and the name of the configuration's class.
    """

    config: tuple[str, str] = ("", "")

    def __call__(self) -> nn.Module:
        """Return the model, built anew."""
        return call_factory(Factory(self._made, self.reference, self.where, self.error))

    def _made(self) -> nn.Module:
        (module, name), (place, cls) = self.config, self.parts
        settings = getattr(importlib.import_module(module), name).from_dict(dict(self.args))
        made: nn.Module = getattr(importlib.import_module(place), cls)(settings)
        return made


def named_builder(subject: Subject, recipe: Recipe | None) -> Builder | None:
    """Return the builder that the command line or the recipe names."""
    if subject.factory is not None:
        return Builder(subject.factory, str(Path.cwd()), "--model")
    if recipe is None or recipe.model is None:
        return None
    where, source = recipe.at("model", "factory"), recipe.model
    return Builder(source.factory, recipe.source.folder, where, source.args, RecipeError)


def builder_of_class(model: nn.Module, where: str) -> Builder:
    """Return the builder that calls a model's class without arguments."""
    cls = type(model)
    if "<locals>" in cls.__qualname__:
        what = f"its class {cls.__qualname__} is made inside a function"
        raise UsageError(what, where, HOW)
    return Builder(f"{cls.__module__}:{cls.__qualname__}", str(Path.cwd()), where)


def refuse_other(made: Mapping[str, Any], builder: Builder, held: Mapping[str, Any]) -> None:
    """Refuse a builder whose model has other names or shapes than those held.

    Raises:
        UsageError: At the first tensor that differs.
    """
    for name in (*held, *(one for one in made if one not in held)):
        if made.get(name) != held.get(name):
            what = f"{builder} builds another model: {name} is {_said(made.get(name))}"
            what = f"{what}, in the file {_said(held.get(name))}"
            raise UsageError(what, builder.where, HOW)


def shapes_of(model: nn.Module, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the shapes of a model's state, less that of modules at some paths."""
    return {
        name: _shape(value)
        for name, value in model.state_dict().items()
        if not any(name.startswith(f"{path}.") for path in without)
    }


def _shape(value: Any) -> Any:
    return tuple(value.shape) if torch.is_tensor(value) else type(value).__name__


def _said(shape: Any) -> str:
    return "missing" if shape is None else str(shape)

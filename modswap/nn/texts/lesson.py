"""A module of the catalogue as a lesson: a typical size, its paper's form, texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modswap.core.explained.words import ModuleText, Words

Form = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A module of the catalogue as a lesson.

    Args:
        name: Name of its row.
        example: Arguments of a typical size, whose sizes differ from one another.
        shape: Gives the shape of an input that fits such arguments.
        sizes: Names of the sizes that a module has, for the axes of its tensors.
        arguments: Arguments of the constructor, as far as a module shows them.
        text: Equation, symbols and the explanation of each step.
        form: The paper's form, where another one runs; a function of the module and its input.
        has_form: Whether a module with its options has that form.
        depth: How many functions below the forward its explanation follows.
    """

    name: str
    example: Mapping[str, Any]
    shape: Callable[[Mapping[str, Any]], tuple[int, ...]]
    sizes: Callable[[Any], Mapping[str, int]]
    arguments: Callable[[Any], Mapping[str, Any]]
    text: ModuleText
    form: Form | None = None
    has_form: Callable[[Any], bool] = lambda _: True
    depth: int = 0

    def form_of(self, module: Any) -> Form | None:
        """Return the paper's form of a module; None where it has one form."""
        return self.form if self.form is not None and self.has_form(module) else None


def held(*names: str) -> Callable[[Any], Mapping[str, Any]]:
    """Return a function that takes attributes of a module."""
    return lambda module: {name: getattr(module, name) for name in names}


def size_of(module: Any, shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Return batch, height and width of an input; of tokens, their number and 1."""
    layout = getattr(module, "layout", "NCHW")
    if len(shape) == 3:
        return shape[0], shape[1], 1
    if len(shape) != 4:
        return None
    height, width = shape[1:3] if layout == "NHWC" else shape[2:4]
    return shape[0], height, width


def words(texts: Mapping[str, tuple[str, str]]) -> dict[str, Words]:
    """Return texts by name, each in English and in Chinese."""
    return {name: Words(*text) for name, text in texts.items()}


def steps(functions: Mapping[str, Mapping[str, tuple[str, str]]]) -> dict[str, dict[str, Words]]:
    """Return the explanations of the steps of functions."""
    return {name: words(texts) for name, texts in functions.items()}

"""Lessons about the modules of the catalogue, in English and Chinese: a file for each module."""

from collections.abc import Mapping

from torch import nn

from modswap.nn import CATALOGUE
from modswap.nn.texts.acmix import LESSON as ACMIX
from modswap.nn.texts.lesson import Lesson, size_of

__all__ = ["LESSONS", "Lesson", "flops_of", "lesson_of"]

LESSONS: Mapping[str, Lesson] = {one.name: one for one in (ACMIX,)}


def lesson_of(module: nn.Module) -> Lesson | None:
    """Return the lesson about a module of the catalogue; None for any other class."""
    name = type(module).__name__
    lesson = LESSONS.get(name)
    return lesson if lesson is not None and type(module) is CATALOGUE[name].module else None


def flops_of(lesson: Lesson, module: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Return the FLOPs of a pass by the formula of the module's row; None if it does not apply."""
    size = size_of(module, shape)
    if size is None:
        return None
    batch, height, width = size
    row = CATALOGUE[lesson.name]
    return batch * row.cost(lesson.arguments(module), height, width).flops

"""Lessons about the modules of the catalogue, in English and Chinese: a file for each module."""

from collections.abc import Mapping

from torch import nn

from modswap.nn import CATALOGUE
from modswap.nn.texts.acmix import LESSON as ACMIX
from modswap.nn.texts.bilevel_routing_attention import LESSON as BILEVEL_ROUTING_ATTENTION
from modswap.nn.texts.cbam import LESSON as CBAM
from modswap.nn.texts.conv_gate import LESSON as CONV_GATE
from modswap.nn.texts.coordinate_attention import LESSON as COORDINATE_ATTENTION
from modswap.nn.texts.eca import LESSON as ECA
from modswap.nn.texts.lesson import Lesson, size_of
from modswap.nn.texts.multi_head_self_attention import LESSON as MULTI_HEAD_SELF_ATTENTION
from modswap.nn.texts.scse import LESSON as SCSE
from modswap.nn.texts.se_block import LESSON as SE_BLOCK
from modswap.nn.texts.self_attention import LESSON as SELF_ATTENTION
from modswap.nn.texts.window_attention import LESSON as WINDOW_ATTENTION

__all__ = ["LESSONS", "Lesson", "flops_of", "lesson_of"]

LESSONS: Mapping[str, Lesson] = {
    one.name: one
    for one in (
        BILEVEL_ROUTING_ATTENTION,
        ACMIX,
        SELF_ATTENTION,
        MULTI_HEAD_SELF_ATTENTION,
        WINDOW_ATTENTION,
        SE_BLOCK,
        ECA,
        CBAM,
        COORDINATE_ATTENTION,
        SCSE,
        CONV_GATE,
    )
}


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

"""The lessons about the catalogue's modules: complete, in both languages, and met by the source.

Covers: __init__, lesson, acmix, bilevel_routing_attention, cbam, conv_gate, coordinate_attention,
eca, multi_head_self_attention, scse, se_block, self_attention, window_attention.
"""

import inspect
import re
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from modswap.core.explained.record import Followed
from modswap.core.explained.words import Words
from modswap.nn import CATALOGUE
from modswap.nn.texts import LESSONS, Lesson, flops_of, lesson_of
from modswap.nn.texts.lesson import size_of
from modswap.ops.explain.explain import ExplainRequest, explained
from modswap.ops.explain.passes import Forward

NAMES = list(LESSONS)


def module_of(lesson: Lesson) -> nn.Module:
    torch.manual_seed(0)
    module = CATALOGUE[lesson.name].module(**lesson.example)
    return module.eval()


def words_of(lesson: Lesson) -> Iterator[Words]:
    text = lesson.text
    yield text.summary
    for group in (text.symbols, text.options, *text.steps.values()):
        yield from group.values()


@pytest.mark.parametrize("name", NAMES)
def test_every_text_is_in_both_languages(name: str) -> None:
    for words in words_of(LESSONS[name]):
        assert words.en.isprintable()
        assert words.zh.isprintable()
        assert words.en.strip() and words.zh.strip()  # noqa: PT018 - one text each
        assert not any("\u4e00" <= letter <= "\u9fff" for letter in words.en)
        assert any("\u4e00" <= letter <= "\u9fff" for letter in words.zh), words.zh


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_the_constructor_has_a_text(name: str) -> None:
    arguments = list(inspect.signature(CATALOGUE[name].module).parameters)

    assert list(LESSONS[name].text.options) == arguments


@pytest.mark.parametrize("name", NAMES)
def test_symbols_stand_in_the_equations(name: str) -> None:
    text = LESSONS[name].text

    assert [one for one in text.symbols if one not in " ".join(text.equations("en"))] == []
    english = re.compile(r"\b(of|in|for|into|each)\b")
    shown = [one for one in text.equations("zh") if english.search(one)]
    assert shown == []


def explained_keys(function: Followed) -> Iterator[tuple[str, Words]]:
    for line in function.walk():
        if line.words is not None:
            yield line.text, line.words


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_a_line_of_the_explained_forward(name: str) -> None:
    lesson = LESSONS[name]
    x = torch.randn(lesson.shape(lesson.example))

    found = explained(Forward(module_of(lesson), (x,)), ExplainRequest("it", times=False))

    met = [words for _, words in explained_keys(found.root)]
    wanted = [words for steps in lesson.text.steps.values() for words in steps.values()]
    assert sorted(met) == sorted(wanted)
    # what has no text: checks, conditions, and the end of a function
    rest = [line.text for line in found.root.walk() if line.words is None]
    assert [text for text in rest if not text.startswith(("check_", "if ", "return "))] == []
    assert found.equal
    assert found.other is None or found.other.difference < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_a_module_shows_are_those_it_was_made_with(name: str) -> None:
    lesson = LESSONS[name]
    module = module_of(lesson)
    bound = inspect.signature(type(module)).bind(**lesson.example)
    bound.apply_defaults()

    shown = lesson.arguments(module)

    made = bound.arguments
    assert {key: made[key] for key in shown if made[key] is not None} == {
        key: value for key, value in shown.items() if made[key] is not None
    }
    shape = lesson.shape(lesson.example)
    twice = (2, *shape[1:])
    assert (flops_of(lesson, module, shape) or 0) * 2 == flops_of(lesson, module, twice)


def test_every_module_of_the_catalogue_has_a_lesson() -> None:
    assert list(LESSONS) == list(CATALOGUE)


def test_other_classes_have_no_lesson() -> None:
    class ACmix(nn.Module):
        pass

    assert lesson_of(ACmix()) is None
    assert lesson_of(nn.Linear(1, 1)) is None
    assert lesson_of(module_of(LESSONS["ACmix"])) is LESSONS["ACmix"]


def test_size_of_an_input_follows_from_its_layout() -> None:
    layer = nn.Identity()

    assert size_of(layer, (2, 9, 4)) == (2, 9, 1)
    assert size_of(layer, (2, 9, 4, 5)) == (2, 4, 5)
    assert size_of(layer, (2, 9)) is None
    vars(layer)["layout"] = "NHWC"
    assert size_of(layer, (2, 9, 4, 5)) == (2, 9, 4)
    assert flops_of(LESSONS["ACmix"], layer, (2, 9)) is None

"""Lines of text as tokens.

Covers: vocabulary.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import CheckpointError, InputError, MissingModuleError
from modswap.io.formats.container import Container
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.heal.data.texts import takes_mask
from modswap.ops.run.inputs import DummyCall
from tests.ops.heal.data.takers import Texts

WORDS = [f"w{number}" for number in range(28)]
LINES = [" ".join(WORDS[: 1 + number % 5]) for number in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tokenizer of whole words, and texts."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("texts")
    vocab = {"[PAD]": 0, "[UNK]": 1} | {word: 2 + n for n, word in enumerate(WORDS)}
    said: dict[str, Any] = {
        "version": "1.0", "truncation": None,
        "padding": {
            "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(said))
    (folder / "lines.txt").write_text("\n\n".join(LINES) + "\n  \n")
    return folder


def taker_in(folder: Path | None, model: nn.Module, length: int = 4) -> Taker:
    container = Container("torch", folder, {}, ()) if folder else None
    call = DummyCall((TensorInput(shape=(1, length), dtype="int64"),), {})
    return Taker(model, call, container)


def test_lines_are_padded_for_a_model_with_a_mask(folder: Path) -> None:
    file = folder / "lines.txt"

    samples = open_samples(file, taker_in(folder, Texts(pad_token_id=0)))
    batch = samples.batch([0, 4])

    assert samples.description == f"40 lines of {file}, 5 tokens each, as they are"
    assert samples.notes == ()
    assert batch.args[0].tolist() == [[2, 0, 0, 0, 0], [2, 3, 4, 5, 6]]
    assert batch.kwargs["attention_mask"].tolist() == [[1, 0, 0, 0, 0], [1] * 5]


def test_longer_lines_than_the_positions_are_cut(folder: Path) -> None:
    samples = open_samples(folder / "lines.txt", taker_in(folder, Texts(3), 2))

    assert samples.batch([4]).args[0].tolist() == [[2, 3, 4]]
    assert samples.notes == ("16 of 40 texts are cut at 3 tokens",)


class Unmasked(Texts):
    """A model with a module that takes no mask, which it is given for padded texts alone."""

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> torch.Tensor:  # type: ignore[override] # without types
        if attention_mask is not None and not bool(attention_mask.all()):
            raise ValueError("is not used here")
        return super().forward(input_ids)


def test_lines_are_not_padded_where_the_new_modules_take_no_mask(folder: Path) -> None:
    taker = taker_in(folder, Texts(pad_token_id=0))
    assert takes_mask(taker, Texts())
    assert not takes_mask(taker, Unmasked())
    assert takes_mask(taker_in(folder, Unmasked()), Unmasked())  # nor did the old ones
    assert takes_mask(taker_in(folder, Bare(), 2), Bare())

    samples = open_samples(folder / "lines.txt", replace(taker, masked=False))

    # lines of 1 to 5 words, joined and cut by the middle one's length
    assert samples.count == 40
    assert samples.notes == (
        "the new modules take no mask of attention: the texts are joined and cut every 3 tokens",
    )
    batch = samples.batch([0, 1])
    assert batch.args[0].tolist() == [[2, 2, 3], [2, 3, 4]]
    assert batch.kwargs == {}


class Bare(nn.Module):
    """A model of tokens without a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.pos = nn.Embedding(3, 2)
        self.table = nn.Embedding(30, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.table(ids).sum(1)
        return out


def test_lines_are_joined_for_a_model_without_a_mask(folder: Path) -> None:
    file = folder / "lines.txt"

    samples = open_samples(file, taker_in(folder, Bare(), 2))

    assert samples.description == f"40 parts of lines of {file}, 3 tokens each, as they are"
    assert samples.notes == ("the texts are joined and cut every 3 tokens",)
    assert samples.batch([0, 1]).args[0].tolist() == [[2, 2, 3], [2, 3, 4]]


def test_of_more_lines_the_seed_chooses_and_they_keep_their_order(folder: Path) -> None:
    taker = taker_in(folder, Texts())
    lines = folder / "many.txt"
    lines.write_text("\n".join(f"w{number % 28} " * (1 + number // 28) for number in range(280)))

    first, again, other = (
        open_samples(lines, taker, DataRequest(most=32, seed=seed)) for seed in (0, 0, 1)
    )

    masks = [one.batch(range(32)).kwargs["attention_mask"].sum(1) for one in (first, other)]
    assert torch.equal(first.batch(range(32)).args[0], again.batch(range(32)).args[0])
    assert masks[0].tolist() == sorted(masks[0].tolist())
    assert len(set(masks[0].tolist())) > 5
    assert masks[0].tolist() != masks[1].tolist()


def test_texts_of_an_iterable_are_tokens(folder: Path) -> None:
    samples = open_samples(LINES, taker_in(folder, Texts()))

    assert samples.description == "40 texts of the list given, 5 tokens each, as they are"
    with pytest.raises(InputError, match="data: it gives texts and tensors; give either of them"):
        open_samples([*LINES, torch.zeros(1, 4).long()], taker_in(folder, Texts()))


def test_texts_that_cannot_be_tokens_are_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "lines.txt"
    call = DummyCall((TensorInput(shape=(1, 4)),), {})
    with pytest.raises(InputError, match=r"texts are given, but the model takes \(1, 4\); give to"):
        open_samples(file, Taker(nn.Linear(4, 2), call))
    with pytest.raises(InputError, match="texts need the tokenizer of the model's folder"):
        open_samples(file, taker_in(None, Texts()))
    small = Bare()
    small.table = nn.Embedding(5, 2)
    with pytest.raises(InputError, match="gives token 6, the model knows 5 of 'table'"):
        open_samples(file, taker_in(folder, small, 2))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: its tokenizer cannot be read: "):
        open_samples(file, taker_in(tmp_path, Texts()))
    few = tmp_path / "few.txt"
    few.write_text("w1\nw2\n")
    with pytest.raises(InputError, match="it gives 2 samples, expected 32 or more"):
        open_samples(few, taker_in(folder, Texts()))
    few.write_text("\n \n.")
    with pytest.raises(InputError, match="it gives 1 sample, expected 32"):
        open_samples(few, taker_in(folder, Texts()))


def test_file_of_texts_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "lines.txt"
    taker = taker_in(folder, Texts())
    opened = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args)

    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(CheckpointError, match="it cannot be read: Permission denied"):
        open_samples(file, taker)


def test_older_tokenizers_are_read_by_transformers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Auto:
        @staticmethod
        def from_pretrained(name: str, **options: Any) -> Any:
            asked.append((name, options))
            if not (tmp_path / "vocab.txt").exists():
                raise OSError("no file named vocab.txt")
            return lambda lines: {"input_ids": [[2, 3] for _ in lines]}

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=Auto))
    taker = taker_in(tmp_path, Texts())

    with pytest.raises(InputError, match=r"there is no tokenizer in .*no file named vocab\.txt"):
        open_samples(folder / "lines.txt", taker)
    (tmp_path / "vocab.txt").write_text("a")
    samples = open_samples(folder / "lines.txt", taker)

    assert samples.batch([39]).args[0].tolist() == [[2, 3]]
    safe = {"local_files_only": True, "trust_remote_code": False}
    assert asked == [(str(tmp_path), safe)] * 2


def test_missing_libraries_of_tokenizers_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "lines.txt"
    for name in ("tokenizers", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingModuleError, match=r"needs? tokenizers.*pip install tokenizers"):
        open_samples(file, taker_in(folder, Texts()))
    with pytest.raises(MissingModuleError, match=r"transformers, which reads others, is missing"):
        open_samples(file, taker_in(tmp_path, Texts()))

"""Lines of text as tokens, by the tokenizer beside the model."""

from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from modswap.core.errors import InputError, MissingModuleError
from modswap.core.words.printable import tame
from modswap.io.recognise.look import unreadable
from modswap.io.recognise.small_files import read_small
from modswap.ops.heal.data.columns import SampleColumns, named_keys
from modswap.ops.heal.data.taker import Argument, DataRequest, Key, Taker, order_key
from modswap.ops.heal.data.vocabulary import MASK, MAX_LENGTH, config_of, text_length, vocabulary
from modswap.ops.heal.samples import Samples
from modswap.ops.run.describe import one_line
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace

TOKENIZER = "tokenizer.json"
MAX_TOKENIZER_BYTES = 128 << 20
MAX_LINE_CHARACTERS = 1 << 16  # the rest of a longer line is one of its own
_TRIED = 4  # tokens of two texts that are tried, one of them padded by half
_FIX = "give token numbers: .npy, .npz, or file.py:callable"

Tokenize = Callable[[Sequence[str]], list[list[int]]]


def text_file_samples(file: Path, taker: Taker, request: DataRequest) -> Samples:
    """Return the samples in the lines of a text file; of more than enough the seed chooses.

    Raises:
        CheckpointError: If the file cannot be read.
        InputError: If the model takes no tokens, or has no tokenizer.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            numbered = enumerate(_lines(stream))
            chosen = nsmallest(
                request.most, numbered, key=lambda one: order_key(request.seed, str(one[0]))
            )
    except OSError as error:
        raise unreadable(file, error) from None
    lines = [line for _, line in sorted(chosen)]
    return text_samples(lines, taker, request, str(file), f"lines of {file}")


def _lines(stream: Any) -> Iterator[str]:
    """Yield the lines of a file that are not blank."""
    for line in iter(lambda: stream.readline(MAX_LINE_CHARACTERS), ""):
        if line.strip():
            yield line.strip()


def text_samples(
    lines: Sequence[str], taker: Taker, request: DataRequest, where: str, words: str
) -> Samples:
    """Return texts as samples of tokens.

    They are padded for a model that takes a mask of attention, if its new modules do; for any other
    they are joined, and cut into samples of the same length.

    Raises:
        InputError: If the model takes no tokens, has no tokenizer, or does not know its tokens.
    """
    place = taker.tokens
    if place is None:
        raise InputError(f"texts are given, but the model takes {taker.call}", where, _FIX)
    request.refuse_said("texts")
    tokens = [one for one in _tokenizer(taker, where)(lines) if one]
    _refuse_unknown(tokens, taker, place, where)
    length = text_length(taker, MAX_LENGTH)
    named = named_keys(taker)
    mask = named.get(MASK) if taker.masked else None
    if mask is None:
        note = ""
        if MASK in named:
            length = min(length, max(1, int(median(map(len, tokens)))))  # as many parts as texts
            note = "the new modules take no mask of attention: "
        given = {place.key: _joined(tokens, length)}
        shown = f"parts of {words}"
        note += f"the texts are joined and cut every {length} tokens"
    else:
        ids, masks = _padded(tokens, length, taker)
        given = {place.key: ids, mask: masks}
        shown, note = words, _of_long(tokens, length)
    count, length = given[place.key].shape
    columns = SampleColumns(given, notes=(note,) if note else ())
    shown = tame(f"{count:,} {shown}, {length} tokens each")
    return columns.samples(taker, request, where, shown)


def _of_long(tokens: Sequence[Sequence[int]], length: int) -> str:
    """Return the sentence on texts that are cut; empty if none is."""
    cut = sum(len(one) > length for one in tokens)
    return f"{cut:,} of {len(tokens):,} texts are cut at {length} tokens" if cut else ""


def _padded(
    tokens: Sequence[Sequence[int]], length: int, taker: Taker
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return texts of one length, and the mask of what is text in them."""
    length = min(length, max(map(len, tokens), default=1))
    pad = config_of(taker.model).get("pad_token_id")
    filler = pad if isinstance(pad, int) and pad >= 0 else 0
    ids = torch.full((len(tokens), length), filler, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(tokens):
        known = torch.tensor(one[:length])
        ids[row, : len(known)], mask[row, : len(known)] = known, 1
    return ids, mask


def _joined(tokens: Sequence[Sequence[int]], length: int) -> torch.Tensor:
    """Return the tokens of all texts, cut into samples of one length; the rest is left out."""
    flat = torch.tensor([token for one in tokens for token in one], dtype=torch.int64)
    count = len(flat) // length
    return flat[: count * length].view(count, length)


def _refuse_unknown(
    tokens: Sequence[Sequence[int]], taker: Taker, place: Argument, where: str
) -> None:
    highest = max((max(one) for one in tokens), default=0)
    size, words = vocabulary(taker, place)
    if highest >= size:
        what = f"the tokenizer gives token {highest:,}, the model knows {words}"
        raise InputError(tame(what), where, _FIX)


def _tokenizer(taker: Taker, where: str) -> Tokenize:
    """Return the tokenizer in the folder of the model: data alone, no code of the folder's.

    Raises:
        InputError: If there is none, or it cannot be read.
        MissingModuleError: If no library for it is installed.
    """
    folder = taker.folder
    if folder is None:
        raise InputError("texts need the tokenizer of the model's folder", where, _FIX)
    try:
        text = read_small(folder / TOKENIZER, MAX_TOKENIZER_BYTES, folder=folder).decode()
    except FileNotFoundError:
        return _of_transformers(folder, where)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        what = "texts need tokenizers, which is missing"
        raise MissingModuleError(what, where, "install it: pip install tokenizers") from None
    try:
        found = Tokenizer.from_str(text)
    except Exception as error:  # its reader raises plain exceptions
        what = f"its tokenizer cannot be read: {one_line(error, 120)}"
        raise InputError(what, str(folder / TOKENIZER), "download it again") from error
    found.no_padding()
    found.no_truncation()
    return lambda lines: [one.ids for one in found.encode_batch(list(lines))]


def _of_transformers(folder: Path, where: str) -> Tokenize:
    """Return the tokenizer that transformers makes of older files, `vocab.txt` and others."""
    fix = f"put {TOKENIZER} into {folder}, or {_FIX}"
    try:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except ImportError:
        what = f"{folder} has no {TOKENIZER}, and transformers, which reads others, is missing"
        raise MissingModuleError(what, where, fix) from None
    except Exception as error:  # of a library, on files that it does not know
        what = f"there is no tokenizer in {folder}: {one_line(error, 120)}"
        raise InputError(what, where, fix) from error
    return lambda lines: found(list(lines))["input_ids"]


def takes_mask(taker: Taker, swapped: nn.Module) -> bool:
    """Return whether a swapped model takes padded tokens, if the original does.

    A row for self-attention alone refuses a mask; the model gives it one for padded texts only.
    """
    place, mask = taker.tokens, named_keys(taker).get(MASK)
    if place is None or mask is None:
        return True
    kept = torch.ones(2, _TRIED, dtype=torch.int64)
    kept[1, _TRIED // 2 :] = 0
    given: dict[Key, torch.Tensor] = {place.key: torch.ones_like(kept), mask: kept}
    batch = taker.batch(given)
    case = Case(DummyCall(batch.args, batch.kwargs))
    return trace(swapped, case).cause is None or trace(taker.model, case).cause is not None

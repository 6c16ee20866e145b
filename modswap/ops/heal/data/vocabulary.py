"""Random tokens for a model of texts: its vocabulary, and lengths that it takes."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError
from modswap.ops.first_input.settings import mapping_of, whole
from modswap.ops.heal.data.taker import Argument, DataRequest, Key, Taker
from modswap.ops.heal.measures.passes import outputs_of, still
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace

USUAL_LENGTH = 64  # tokens, where the positions allow as many
MAX_LENGTH = 128  # of a text that is given
MASK = "attention_mask"  # with which tokens behind a text may be padded
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
OFFSETS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2}  # positions that no token has


def drawn_tokens(
    taker: Taker, request: DataRequest, place: Argument
) -> tuple[dict[Key, torch.Tensor], int, str]:
    """Return random tokens for each argument of tokens, their length, and the vocabulary in words.

    Masks are ones; the numbers of segments and positions are left to the call.

    Raises:
        InputError: If the vocabulary cannot be found.
    """
    size, words = vocabulary(taker, place)
    pad = config_of(taker.model).get("pad_token_id")
    length = text_length(taker, USUAL_LENGTH)
    generator = torch.Generator().manual_seed(request.seed)
    given: dict[Key, torch.Tensor] = {}
    for one in taker.arguments:
        name = str(one.key)
        if not one.is_tokens or "type" in name or "position" in name:
            continue
        own = one.tensor.shape[1]
        shape = (request.most, length if own == place.tensor.shape[1] else own)
        if "mask" in name:
            given[one.key] = torch.ones(shape, dtype=torch.int64)
            continue
        drawn = torch.randint(0, size, shape, generator=generator)
        if isinstance(pad, int) and size > 1:  # is no token of a text
            drawn = torch.where(drawn == pad, (pad + 1) % size, drawn)
        given[one.key] = drawn
    return given, length, words


def vocabulary(taker: Taker, place: Argument) -> tuple[int, str]:
    """Return the number of tokens that a model knows, and in words.

    It is that of the embedding that gets the tokens.

    Raises:
        InputError: If no embedding does.
    """
    shape = place.tensor.shape
    ids = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0))
    ids[..., 0], ids[..., -1] = 1, 0  # not those of positions, nor of segments
    found: list[tuple[str, nn.Embedding]] = []
    handles = []
    for path, module in taker.model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            handles.append(module.register_forward_pre_hook(_noting(path, ids, found)))
    try:
        with still(taker.model):
            outputs_of(taker.model, taker.batch({place.key: ids}))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        what = f"no embedding of the model gets its input {place.key!r}"
        raise InputError(what, "none", "give token numbers: .npy, .npz, or file.py:callable")
    path, table = found[0]
    return table.num_embeddings, f"{table.num_embeddings:,} of {path!r}"


def _noting(path: str, ids: torch.Tensor, found: list[tuple[str, Any]]) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        given = args[0].cpu()
        if given.numel() == ids.numel() and torch.equal(given.flatten(), ids.flatten()):
            found.append((path, module))

    return note


def text_length(taker: Taker, wanted: int) -> int:
    """Return the number of tokens of a text: as wanted, fewer where the positions end before.

    A model that refuses it gets the length of its call.
    """
    place = taker.tokens
    assert place is not None  # noqa: S101 - the caller found it
    length = min((wanted, *_tables(taker.model)))
    own = place.tensor.shape[1]

    def resized(tensor: TensorInput) -> TensorInput:
        same = tensor.shape[1:] == (own,)
        return tensor.model_copy(update={"shape": (tensor.shape[0], length)}) if same else tensor

    call: DummyCall = taker.call.with_tensors(resized)
    return length if trace(taker.model, Case(call)).cause is None else own


def _tables(model: nn.Module) -> Iterator[int]:
    """Yield the numbers of positions that tables of a model hold."""
    config = config_of(model)
    offset = OFFSETS.get(str(config.get("model_type")), 0)
    for key in POSITIONS:
        if (number := whole(config.get(key))) is not None:
            yield max(1, number - offset)
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "pos" in path.rpartition(".")[2]:
            yield max(1, module.num_embeddings - offset)


def config_of(model: nn.Module) -> Mapping[Any, Any]:
    """Return the configuration that a model of transformers holds; empty without one."""
    return mapping_of(vars(model).get("config")) or {}

"""Tokens that come from a map are distinguished from a sequence by their operations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.ops.trace.axes import AxesMode

Make = Callable[[torch.Tensor], torch.Tensor]
STEM = nn.Conv2d(3, 16, 8, 8)
LINE = nn.Conv1d(16, 16, 3, padding=1)
NORM, LAYER = nn.LayerNorm(16), nn.Linear(16, 16)
HEADS = nn.MultiheadAttention(16, 2, batch_first=True).eval()
WORDS = nn.Embedding(50, 16)
EMBED = nn.Linear(192, 16)


def tokens(x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = STEM(x).flatten(2).transpose(1, 2)
    return out


def words(x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = WORDS(torch.zeros(len(x), 16, dtype=torch.int64, device=x.device))
    return out


def cut(x: torch.Tensor, side: int) -> torch.Tensor:
    """Return the windows of maps (N, C, H, W) as tokens."""
    N, C, H, W = x.shape
    parts = x.permute(0, 2, 3, 1).view(N, H // side, side, W // side, side, C)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, C)


def slid(x: torch.Tensor) -> torch.Tensor:
    """Return all windows of 3 x 3 of maps (N, C, H, W) as tokens."""
    windows = x.unfold(2, 3, 1).unfold(3, 3, 1)  # (N, C, H - 2, W - 2, 3, 3)
    return windows.permute(0, 2, 3, 4, 5, 1).reshape(-1, 9, x.shape[1])


def patches(x: torch.Tensor) -> torch.Tensor:
    N, C, H, W = x.shape
    parts = x.view(N, C, H // 8, 8, W // 8, 8).permute(0, 2, 4, 3, 5, 1)
    out: torch.Tensor = EMBED(parts.reshape(N, -1, 192))
    return out


def crossed(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    attended: torch.Tensor = HEADS(query, key, key)[0]
    return query + attended


def block(x: torch.Tensor) -> torch.Tensor:
    normed = NORM(x)
    x = x + HEADS(normed, normed, normed)[0]
    out: torch.Tensor = x + LAYER(F.gelu(LAYER(NORM(x))))
    return out


def einsum(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nlc,dc->nld", tokens(x), LAYER.weight)


MAPS: dict[str, tuple[Make, tuple[int, int]]] = {
    "patches of a convolution": (tokens, (4, 6)),
    "positions are added": (lambda x: tokens(x) + torch.zeros(1, 24, 16, device=x.device), (4, 6)),
    "embedded positions": (
        lambda x: tokens(x) + WORDS(torch.arange(24, device=x.device)), (4, 6)),
    "positions first": (lambda x: torch.zeros(24, 1, device=x.device) + tokens(x), (4, 6)),
    "blocks of a transformer": (lambda x: block(block(tokens(x))), (4, 6)),
    "a product of Einstein": (einsum, (4, 6)),
    "rows of pixels": (patches, (4, 6)),
    "unfolded pixels": (
        lambda x: EMBED(F.unfold(x, 8, stride=8).transpose(1, 2)), (4, 6)),
    "windows": (lambda x: block(cut(STEM(x), 2)), (2, 2)),
    "windows of a padded map": (lambda x: cut(F.pad(STEM(x), (0, 0, 0, 2)), 3), (3, 3)),
    "windows of a cropped map": (lambda x: cut(STEM(x)[:, :, :3, :3], 3), (3, 3)),
    "windows of a rolled map": (lambda x: cut(STEM(x).roll((1, 1), (2, 3)), 2), (2, 2)),
    "every second pixel": (lambda x: STEM(x)[:, :, ::2, 1::2].flatten(2).mT, (2, 3)),
    "four maps beside one another": (
        lambda x: torch.cat([STEM(x)[:, :4]] * 4, 1).flatten(2).mT, (4, 6)),
    "a pooled map": (lambda x: F.adaptive_avg_pool2d(STEM(x), (2, 5)).flatten(2).mT, (2, 5)),
    "an enlarged map": (
        lambda x: F.interpolate(STEM(x), scale_factor=2.0).flatten(2).mT, (8, 12)),
    "a single of stacked": (lambda x: torch.stack([tokens(x), tokens(x)])[1], (4, 6)),
    "one of two halves": (lambda x: tokens(x).chunk(2, -1)[0].repeat(1, 1, 2), (4, 6)),
    "without a single axis": (lambda x: tokens(x).unsqueeze(1).squeeze(1), (4, 6)),
    "sliding windows": (
        lambda x: slid(STEM(x)), (3, 3)),
    "image tokens that see words": (lambda x: crossed(tokens(x), words(x)), (4, 6)),
    "a mean over frames": (lambda x: torch.stack([tokens(x), tokens(x)]).mean(0), (4, 6)),
    "shuffled pixels": (lambda x: F.pixel_shuffle(STEM(x), 2).flatten(2).mT, (8, 12)),
}  # fmt: skip
SEQUENCES: dict[str, Make] = {
    "words": words,
    "words in blocks": lambda x: block(words(x)),
    "words that see an image": lambda x: crossed(words(x), tokens(x)),
    "words that see as many pixels": lambda x: crossed(words(x), tokens(x)[:, :16]),
    "queries": lambda x: crossed(torch.zeros(2, 16, 16, device=x.device), tokens(x)),
    "pieces of a sentence": lambda x: words(x).view(2, 4, 4, 16).flatten(1, 2),
    "a class token": lambda x: torch.cat([tokens(x)[:, :1], tokens(x)], 1),
    "two scales": lambda x: torch.cat([tokens(x), F.avg_pool2d(STEM(x), 2).flatten(2).mT], 1),
    "some tokens": lambda x: tokens(x)[:, :16],
    "picked tokens": lambda x: tokens(x)[:, torch.arange(24, device=x.device)],
    "sorted tokens": lambda x: tokens(x).sort(1)[0],
    "a line": lambda x: LINE(words(x).mT).mT,
    "frames": lambda x: torch.stack([tokens(x)] * 4, 1).flatten(1, 2),
    "windows of windows": lambda x: cut(STEM(x), 2).view(2, 24, 16),
    "channels": lambda x: STEM(x).flatten(2),
    "means of rows": lambda x: STEM(x).mean(3).mT,
    "sums": lambda x: STEM(x).sum((2, 3), keepdim=True).flatten(2).mT,
    "the best pixels": lambda x: tokens(x).topk(4, 1)[0],
    "a scalar": lambda x: tokens(x).sum().reshape(1, 1, 1),
    "what words of an image mean": lambda x: WORDS(x[:, 0, 0].long()),
}
DEVICES = pytest.mark.parametrize("device", ["cpu", "meta"])


def grid(make: Make, device: str) -> Any:
    for module in (STEM, LINE, NORM, LAYER, HEADS, WORDS, EMBED):
        module.to_empty(device=device)
    x = torch.zeros(2, 3, 32, 48, device=device)
    with torch.no_grad(), AxesMode() as mode:
        mode.start([x, torch.zeros(2, 3)])
        made = make(x)
    assert made.ndim == 3
    return mode.grid(made)


@DEVICES
@pytest.mark.parametrize(("make", "size"), MAPS.values(), ids=list(MAPS))
def test_tokens_of_a_map_have_its_grid(make: Make, size: tuple[int, int], device: str) -> None:
    assert grid(make, device) == size


@DEVICES
@pytest.mark.parametrize("make", SEQUENCES.values(), ids=list(SEQUENCES))
def test_other_tokens_have_no_grid(make: Make, device: str) -> None:
    assert grid(make, device) is None


def test_image_of_the_model_is_a_map_and_other_inputs_are_none() -> None:
    image, line, ids = torch.zeros(1, 3, 4, 4), torch.zeros(1, 16, 3), torch.zeros(1, 3, 4, 4).int()
    with AxesMode() as mode:
        mode.start({"image": image, "more": [line, ids]})
        flat = [x.flatten(2).mT for x in (image, ids)]

    assert [mode.grid(x) for x in (flat[0], line, flat[1], image)] == [(4, 4), None, None, None]


def test_tensor_that_is_written_into_loses_what_was_known() -> None:
    with torch.no_grad(), AxesMode() as mode:
        made = tokens(torch.zeros(1, 3, 32, 32))
        before = mode.grid(made)
        made.resize_(1, 4, 64)

    assert before == (4, 4)
    assert mode.grid(made) is None

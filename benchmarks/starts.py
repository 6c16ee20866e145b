"""The drift of inherited attention, from all windows to one, on a vision transformer of digits.

A small transformer is trained on scikit-learn's digits. Its attention is replaced by
BiLevelRoutingAttention with inherited weights that routes to fewer and fewer windows, and by the
other rows that hold attention. `benchmarks/results/starts.txt` has the output.

    python benchmarks/starts.py
"""

import copy
import platform
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

import modswap
from modswap.nn import MultiHeadSelfAttention
from modswap.ops.examine.table import examination_names
from modswap.ops.recipes import parse_recipe

DIM, HEADS, DEPTH, STEPS, BATCH, RATE = 48, 4, 4, 800, 64, 2e-3
TRAINED = 1297  # of 1,797 digits; the others judge
WINDOWS = 4  # along each side of the 8x8 tokens


class Block(nn.Module):
    """A transformer block: (N, L, C) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attn = MultiHeadSelfAttention(DIM, HEADS, qkv_bias=True)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens after attention and a hidden layer."""
        x = x + self.attn(self.norm1(x))
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


class Digits(nn.Module):
    """A transformer over the pixels of 8x8 pictures: (N, 1, 8, 8) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, DIM, 1)
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, DIM))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.head = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.places
        out: torch.Tensor = self.head(self.blocks(tokens).mean(1))
        return out


def trained(pictures: torch.Tensor, labels: torch.Tensor) -> Digits:
    """Return a transformer trained on pictures."""
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(0, len(pictures), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(model(pictures[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def swapped(model: Digits, rule: str) -> Digits:
    """Return a copy of a model whose attention is replaced by a rule."""
    verify = f"verify: {{skip: [{', '.join(examination_names())}]}}"
    text = f"version: 1\n{verify}\ninputs: [{{shape: [2, 1, 8, 8]}}]\n"
    text += f"replace: [{{match: 'blocks.*.attn', {rule}}}]\n"
    changed = copy.deepcopy(model)
    modswap.replace(changed, parse_recipe(text, "starts", "."))
    return changed


def rules() -> list[tuple[str, str]]:
    """Return the rules of the table, with their names."""
    routed = "with: BiLevelRoutingAttention, grid: [8, 8], args: {n_win: %d, topk: %d}, start: %s"
    found = [
        (f"BRA inherited, topk {topk} of {WINDOWS**2}", routed % (WINDOWS, topk, "inherit"))
        for topk in (16, 12, 8, 6, 4, 3, 2, 1)
    ]
    found.append((f"BRA fresh, topk 16 of {WINDOWS**2}", routed % (WINDOWS, 16, "fresh")))
    window = "with: WindowAttention, grid: [8, 8], args: {window_size: %d}, start: inherit"
    found += [(f"WindowAttention inherited, window {side}", window % side) for side in (8, 4, 2)]
    found.append(
        (
            "SelfAttention inherited (adds a residual and a norm)",
            "with: SelfAttention, start: inherit",
        )
    )
    return found


@torch.no_grad()
def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    with torch.enable_grad():
        model = trained(pictures[:TRAINED], labels[:TRAINED])
    held, wanted = pictures[TRAINED:], labels[TRAINED:]
    before = model(held)
    sys.stdout.write(
        f"torch {torch.__version__}, {platform.machine()}, {STEPS} steps of training\n"
    )
    sys.stdout.write(
        f"original: accuracy {accuracy(before, wanted):.3f} on {len(held)} held-out digits\n"
    )
    sys.stdout.write(f"{'start':54} {'drift':>9} {'agreement':>9} {'accuracy':>8}\n")
    for name, rule in rules():
        after = swapped(model, rule)(held)
        drift = float((after - before).norm() / before.norm())
        same = accuracy(after, before.argmax(1))
        sys.stdout.write(f"{name:54} {drift:9.2g} {same:9.3f} {accuracy(after, wanted):8.3f}\n")


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of rows whose largest value is at their label."""
    return float((logits.argmax(1) == labels).float().mean())


if __name__ == "__main__":
    main()

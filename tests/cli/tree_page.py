"""The page on `modswap tree`, with the command's own output; `make docs` writes it."""

import contextlib
import io
import os
import tempfile
from pathlib import Path
from unittest import mock

import torch

import modswap
from modswap.cli.app import run
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.demo.network import build_network

PAGE = Path(__file__).parents[2] / "docs" / "tree.md"
RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 64, 64]}]
replace: [{match: channel_attention, with: SelfAttention, prefix: att, args: {num_heads: 8}}]
"""
WIDTH = 100

TEXT = """\
# What is in a model, and what its layers put out

`modswap tree FILE` prints the module tree of a checkpoint of any format. Without an input the file
is read as data, without torch and without the model's classes. With `--input` (a shape, `auto`, a
picture, an array) the model is built and run once: the tree then has shapes, calls and FLOPs.

Written by `make docs`: the outputs below are the command's own, on the network of `modswap demo`
with seed 0, in which a `SelfAttention` took the place of `channel_attention`, its layers under the
prefix `att`.

## What does this prefix name, and what do those layers put out?

```text
$ modswap tree unetpp-att.pt --match "**.att_*" --input 1,3,64,64
{match}```

- `--match PATTERN` selects paths by a pattern of the recipe ([recipe.md](recipe.md)); `--prefix
  att_` selects modules whose path, or own name, begins so. Names in the manner of Keras
  (`block1_conv1`) are found by the same patterns: `block1_*`.
- With an input, each selected module has a line for every tensor of every call: shape, mean,
  standard deviation, the share of values that are 0, and how many are NaN or infinite. These are of
  a pass on the file's own weights, in evaluation mode. Values that are not finite are in neither
  mean nor deviation.
- `--input photo.jpg` takes a picture (RGB, normalised by ImageNet's means and deviations;
  `photo.jpg:224x224` resizes it; `pip install "modswap[pictures]"` reads it), `--input x.npy` an
  array. `--input 1,3,64,64` draws normal values with a fixed seed.
- `--save-outputs FILE.safetensors` writes these tensors under the paths of their modules, a second
  call as `PATH#2`. A file that exists is overwritten only with `--force`, the checkpoint never.

## The whole tree

```text
$ modswap tree unetpp-att.pt --depth 2 --highlight "channel_attention.*"
{whole}```

- Modules of a list that are equal in everything that is shown are one line, `layers.0–11 ×12`; `-v`
  shows each.
- Parameters and bytes of a module include those below it, each once; the last line has the sums of
  the model. A parameter beside modules (`pos_embed`) has a line of its own. A module with a second
  path is shown there as `= first.path`, a tied tensor with the name of the other one.
- FLOPs are those of all calls in the pass, counted by operators (a multiplication and an addition
  are two). Elementwise operations, norms and pooling have none.
- A column has the dtypes where modules differ in them.
- `--highlight PATTERN` marks paths in the whole tree.
- `--format json` has every path as an entry of its own.

## Browse

`modswap tree FILE --interactive` shows the tree in the terminal (`pip install "modswap[browse]"`).
`/` searches by a pattern or a part of a path, `n` goes to the next module found, `x` selects the
one under the cursor, `a` all that were found. `w` asks for a module of the catalogue and a file,
and writes a recipe whose rule selects these modules and no others.
"""


def page() -> str:
    """Return the page; the outputs are those of the command."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build_network(base_width=4).eval()
        modswap.apply_recipe(net, parse_recipe(RECIPE, "swap.yaml", ""))
        torch.save(net, "unetpp-att.pt")
        match = output("--match", "**.att_*", "--input", "1,3,64,64")
        whole = output("--depth", "2", "--highlight", "channel_attention.*")
    return TEXT.format(match=match, whole=whole)


def output(*args: str) -> str:
    """Return what `modswap tree` prints of the file."""
    stream = io.StringIO()
    with (
        contextlib.redirect_stdout(stream),
        mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}),
    ):
        if run(["tree", "unetpp-att.pt", *args]):
            raise RuntimeError(args)
    return stream.getvalue()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

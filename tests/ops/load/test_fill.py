"""Weights go into a model: ties that a file leaves out, tensors of tools, other names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.renames import Rename, stripped
from modswap.core.errors import UsageError
from modswap.core.kept.outcome import Outcome
from modswap.core.words.python_spelling import as_python
from modswap.io.formats.reading import read
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace import replace_file
from tests.models import GatedNet

FACTORY = "tests.models:GatedNet"
HERE = f"{__name__}:build"
RULE = "replace: [{match: space_attention, with: SEBlock, args: {channel: 16}}]\n"
STATE = dict(GatedNet().state_dict())
SAVERS: dict[str, Callable[[dict[str, torch.Tensor], Path], object]] = {
    "net.pt": torch.save,
    "net.safetensors": save_file,
}

State = dict[str, torch.Tensor]


class TiedWords(nn.Module):
    """A model of words whose head is its embedding: (N, L) -> (N, L, 20)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.mix = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for block in (self.mix, *self.blocks):
            x = x + block(x)
        out: torch.Tensor = self.head(x)
        return out


def build() -> TiedWords:
    return TiedWords()


def written(state: State, place: Path, name: str = "net.pt") -> Path:
    SAVERS[name](state, place / name)
    return place / name


def swapped(
    file: Path,
    rule: str = RULE,
    factory: str = FACTORY,
    renames: tuple[Rename, ...] = (),
    **more: Any,
) -> Outcome:
    shape = "{shape: [1, 16], dtype: int64}" if factory == HERE else "{shape: [2, 3, 16, 16]}"
    skip = "verify: {skip: [sizes, limits, matrix]}\n"
    recipe = parse_recipe(f"version: 1\ninputs: [{shape}]\n{rule}{skip}", "swap.yaml", ".")
    out = more.get("out") or file.with_stem("out")
    outcome = replace_file(Job(Subject(file, factory=factory, renames=renames), recipe, out))
    assert outcome.error is None, outcome.error
    return outcome


def contents(file: Path) -> State:
    return dict(read(file, Policy()).slots[0].value)


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", SAVERS)
def test_tied_tensor_that_a_file_leaves_out_is_present_and_stays_out(
    name: str, tmp_path: Path
) -> None:
    state = {n: t for n, t in build().state_dict().items() if n != "head.weight"}
    file = written(state, tmp_path, name)
    rule = '{match: mix, with: "torch.nn:Linear", args: {in_features: 8, out_features: 8}}'

    swapped(file, f"replace: [{rule}]\n", HERE)

    new = contents(tmp_path / f"out{file.suffix}")
    assert new.keys() == state.keys()
    assert torch.equal(new["words.weight"], state["words.weight"])
    loaded = modswap.load(tmp_path / f"out{file.suffix}", HERE, allow=["torch.nn.Linear"])
    assert loaded.get_parameter("head.weight") is loaded.get_parameter("words.weight")


@pytest.mark.parametrize("name", SAVERS)
def test_tensor_stays_under_its_other_name_where_its_own_goes(name: str, tmp_path: Path) -> None:
    state = {n: t for n, t in build().state_dict().items() if n != "head.weight"}
    file = written(state, tmp_path, name)
    rule = (
        '{match: words, with: "torch.nn:Embedding", args: {num_embeddings: 20, embedding_dim: 8}}'
    )

    outcome = swapped(file, f"replace: [{rule}]\n", HERE)

    new = contents(tmp_path / f"out{file.suffix}")
    assert torch.equal(new["head.weight"], state["words.weight"])
    assert not torch.equal(new["words.weight"], state["words.weight"])
    assert outcome.ledger is not None
    assert outcome.ledger.proved
    loaded = modswap.load(tmp_path / f"out{file.suffix}", HERE, allow=["torch.nn.Embedding"])
    assert torch.equal(loaded.get_parameter("head.weight"), state["words.weight"])


def test_head_that_is_swapped_leaves_the_embedding(tmp_path: Path) -> None:
    state = {n: t for n, t in build().state_dict().items() if n != "head.weight"}
    file = written(state, tmp_path)
    rule = '{match: head, with: "torch.nn:Linear", args: {in_features: 8, out_features: 20}}'

    swapped(file, f"replace: [{rule}]\n", HERE)

    new = contents(tmp_path / "out.pt")
    assert new.keys() == state.keys() | {"head.weight", "head.bias"}
    assert torch.equal(new["words.weight"], state["words.weight"])


def of_tools() -> State:
    more = {
        f"{name}.total_ops".lstrip("."): torch.zeros(1) for name, _ in GatedNet().named_modules()
    }
    return STATE | more | {"position_ids": torch.arange(4), "loss.weight": torch.ones(3)}


@pytest.mark.parametrize("name", SAVERS)
def test_tensors_of_tools_are_counted_and_kept(name: str, tmp_path: Path) -> None:
    state = of_tools()
    file = written(state, tmp_path, name)

    outcome = swapped(file)

    (note,) = [note for note in outcome.notes if "does not have" in note]
    assert note.startswith(f"{len(state) - len(STATE)} tensors of the file that the model")
    new = contents(tmp_path / f"out{file.suffix}")
    kept = {n: t for n, t in state.items() if not n.startswith("space_attention.")}
    assert same({n: t for n, t in new.items() if n in kept}, kept)
    assert not any(n.startswith("space_attention.") and n in state for n in new)
    modswap.load(tmp_path / f"out{file.suffix}", FACTORY)


def test_tensors_of_tools_go_over_to_another_format(tmp_path: Path) -> None:
    state = of_tools()
    file = written(state, tmp_path)

    swapped(file, out=tmp_path / "out.safetensors")

    new = load_file(tmp_path / "out.safetensors")
    assert torch.equal(new["loss.weight"], state["loss.weight"])
    assert "space_attention.total_ops" not in new


def test_counters_of_old_batch_norms_need_not_be_in_the_file(tmp_path: Path) -> None:
    state = {n: t for n, t in STATE.items() if "num_batches" not in n}
    file = written(state, tmp_path)

    outcome = swapped(file)

    assert any("2 buffers that the file leaves out" in note for note in outcome.notes)
    new = contents(tmp_path / "out.pt")
    assert not any("num_batches" in name for name in new)


@pytest.mark.parametrize("gone", ["stem.weight", "space_attention.1.running_mean"])
def test_parameter_or_statistic_that_is_missing_is_an_error(gone: str, tmp_path: Path) -> None:
    file = written({n: t for n, t in STATE.items() if n != gone}, tmp_path)

    with pytest.raises(UsageError, match=rf"1 missing \({gone}\)"):
        modswap.load(file, FACTORY)


def test_further_layers_of_the_same_kind_are_an_error(tmp_path: Path) -> None:
    more = {
        f"blocks.{n}.{leaf}": t for n in (2, 3) for leaf, t in nn.Linear(8, 8).state_dict().items()
    }
    file = written(dict(build().state_dict()) | more, tmp_path)

    with pytest.raises(UsageError, match=r"4 unexpected \(blocks\.2\.weight, .*of the kind of its"):
        modswap.load(file, HERE)

    renames = [("blocks.2.", "other.2."), ("blocks.3.", "other.3.")]
    assert modswap.load(file, HERE, rename=renames).get_parameter("mix.weight").shape == (8, 8)


def test_factory_of_another_model_is_an_error(tmp_path: Path) -> None:
    file = written(STATE, tmp_path)

    with pytest.raises(UsageError, match=r"\d+ unexpected \(stem\.weight, .*build the model that"):
        modswap.load(file, "torch.nn:Identity")


OTHERS: dict[str, tuple[Callable[[str], str], list[tuple[str, str]], str]] = {
    "prefix": (lambda n: f"backbone.{n}", [("backbone.", "")], "--strip-prefix backbone."),
    "no prefix": (lambda n: n.removeprefix("stem."), [], ""),
    "beginning": (
        lambda n: n.replace("stem.", "conv1."), [("conv1.", "stem.")], "--rename 'conv1.=stem.'"
    ),
    "inside": (
        lambda n: n.replace(".1.", ".norm."), [(".norm.", ".1.")], "--rename '.norm.=.1.'"
    ),
}  # fmt: skip


@pytest.mark.each_once
@pytest.mark.parametrize("kind", ["prefix", "beginning"])
@pytest.mark.parametrize("name", SAVERS)
def test_other_names_are_found_tried_and_offered(kind: str, name: str, tmp_path: Path) -> None:
    change, pairs, option = OTHERS[kind]
    state = {change(n): t for n, t in STATE.items()}
    file = written(state, tmp_path, name)

    with pytest.raises(UsageError, match="missing") as caught:
        modswap.load(file, FACTORY)
    assert caught.value.fix == f"the names differ, and all fit with `{as_python(option)}`"

    renames = tuple(Rename(*pair) for pair in pairs)
    swapped(file, renames=renames)
    new = contents(tmp_path / f"out{file.suffix}")
    own = {n: t for n, t in state.items() if "space_attention" not in n}
    assert same({n: t for n, t in new.items() if n in own}, own)
    assert all(n.startswith(("backbone.", "space")) for n in new if n not in own)
    assert not any(n in state for n in new if n not in own)
    loaded = modswap.load(tmp_path / f"out{file.suffix}", FACTORY, rename=pairs)
    assert torch.equal(loaded.get_parameter("head.weight"), STATE["head.weight"])


def test_part_inside_names_is_offered(tmp_path: Path) -> None:
    change, pairs, option = OTHERS["inside"]
    file = written({change(n): t for n, t in STATE.items()}, tmp_path)

    with pytest.raises(UsageError, match="missing") as caught:
        modswap.load(file, FACTORY)

    assert as_python(option) in caught.value.fix
    modswap.load(file, FACTORY, rename=pairs)


def test_two_models_in_a_file_are_both_offered(tmp_path: Path) -> None:
    state = {f"{who}.{n}": t for who in ("student", "teacher") for n, t in STATE.items()}
    file = written(state, tmp_path)

    with pytest.raises(UsageError, match="missing") as caught:
        modswap.load(file, FACTORY)

    offered = "`strip_prefix='student.'` or with `strip_prefix='teacher.'`"
    assert offered in caught.value.fix
    swapped(file, renames=(stripped("student"),))
    new = contents(tmp_path / "out.pt")
    assert all(torch.equal(new[n], state[n]) for n in state if n.startswith("teacher."))
    modswap.load(tmp_path / "out.pt", FACTORY, strip_prefix="student")


def test_names_of_the_file_are_kept_in_another_format(tmp_path: Path) -> None:
    file = written({f"backbone.{n}": t for n, t in STATE.items()}, tmp_path)

    swapped(file, renames=(stripped("backbone"),), out=tmp_path / "out.safetensors")

    new = load_file(tmp_path / "out.safetensors")
    assert all(name.startswith("backbone.") for name in new)
    modswap.load(tmp_path / "out.safetensors", FACTORY, strip_prefix="backbone")


def test_wrong_shape_gets_no_renaming(tmp_path: Path) -> None:
    file = written(STATE | {"stem.weight": torch.ones(16, 3, 1, 1)}, tmp_path)

    with pytest.raises(UsageError, match=r"1 mismatched \(stem\.weight is .*build the model that"):
        modswap.load(file, FACTORY)

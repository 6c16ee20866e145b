"""Samples from iterables of Python, and from callables that a user names.

Covers: items.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from modswap.core.asked.recipe import TensorInput
from modswap.core.errors import InputError, RecipeError, UsageError
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.heal.samples import Batch, Samples
from modswap.ops.run.inputs import DummyCall
from tests.ops.heal.data.takers import convolution, taker_of

ROWS = torch.arange(160.0).view(40, 4)
LABELS = torch.arange(40)
LINEAR = taker_of(nn.Linear(4, 2), 1, 4)
COLOUR = taker_of(convolution(), 1, 3, 8, 8)
GREY = taker_of(convolution(1), 1, 1, 8, 8)
BYTES = DataRequest(mean=(0.0,), std=(1 / 255,))


class Words(nn.Module):
    """A model of tokens with a mask: (N, L) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 4)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Any = None, scale: float = 1.0
    ) -> torch.Tensor:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        out: torch.Tensor = (self.table(input_ids) * attention_mask[..., None]).sum(1) * scale
        return out


WORDS = Taker(Words(), DummyCall((TensorInput(shape=(1, 6), dtype="int64"),), {}))


def rows_of(samples: Samples) -> torch.Tensor:
    found: torch.Tensor = samples.batch(range(samples.count)).args[0]
    return found


def test_loader_is_read_until_there_are_enough() -> None:
    read: list[int] = []

    def batches() -> Iterator[Any]:
        for number in range(0, 4000, 10):
            read.append(number)
            yield torch.full((10, 4), float(number)), torch.arange(10)

    steps: list[str] = []
    samples = open_samples(batches(), LINEAR, DataRequest(most=35), steps.append)

    assert (samples.count, len(read)) == (35, 4)
    assert rows_of(samples)[34].tolist() == [30.0] * 4
    assert samples.batch([33]).labels.tolist() == [3]
    assert samples.description == "35 samples of the generator given, as they are"
    assert steps[-1] == "reading samples: 35 of 35"


def test_loader_that_shuffles_draws_the_same_order_each_time() -> None:
    loader = DataLoader(TensorDataset(ROWS, LABELS), batch_size=8, shuffle=True)
    state = torch.random.get_rng_state()

    first = open_samples(loader, LINEAR)
    second = open_samples(loader, LINEAR)

    assert torch.equal(rows_of(first), rows_of(second))
    assert torch.equal(first.batch([5]).args[0], ROWS[first.batch([5]).labels])
    assert not torch.equal(rows_of(first), ROWS)
    assert torch.equal(torch.random.get_rng_state(), state)


class Sorted(Dataset[Any]):
    """A data set of single samples, in the order of their classes."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, number: int) -> Any:
        return torch.full((4,), float(number)), number // 100


def test_of_a_data_set_samples_of_all_its_parts_are_chosen() -> None:
    samples = open_samples(Sorted(), LINEAR, DataRequest(most=64))

    labels = samples.batch(range(64)).labels
    assert samples.count == 64
    assert len(set(labels.tolist())) > 7
    assert torch.equal(rows_of(samples)[:, 0] // 100, labels.float())


def test_forms_of_a_batch_are_the_same_samples() -> None:
    forms = {
        "tensor": ROWS,
        "tuple": (ROWS, LABELS),
        "mapping": {"input": ROWS, "label": LABELS},
        "other name": {"features": ROWS, "__key__": ["a"] * 40},
        "batch": Batch((ROWS,), labels=LABELS),
        "call": ((ROWS,), {}),
        "list": [ROWS[:20], ROWS[20:]],
        "single": list(ROWS),
        "numbers": [{"input": row.tolist(), "cls": 3} for row in ROWS],
        "function": lambda: iter([[ROWS]]),
        "webdataset": [(row, 3, "name.jpg") for row in ROWS],
    }

    for name, given in forms.items():
        assert torch.equal(rows_of(open_samples(given, LINEAR)), ROWS), name
    assert open_samples(forms["numbers"], LINEAR).batch([0]).labels.tolist() == [3]
    assert open_samples(forms["webdataset"], LINEAR).batch([0]).labels.tolist() == [3]
    assert open_samples(forms["batch"], LINEAR).batch([7]).labels.tolist() == [7]


def test_labels_that_are_no_numbers_are_left_out() -> None:
    for labels in (["cat"] * 40, torch.arange(39), object()):
        assert open_samples((ROWS, labels), LINEAR).batch([0]).labels is None
    some = [(ROWS[:20], LABELS[:20]), ROWS[20:]]
    assert open_samples(some, LINEAR).batch([0]).labels is None
    several = [(ROWS[:20], torch.zeros(20, 2)), (ROWS[20:], torch.zeros(20, 3))]
    assert open_samples(several, LINEAR).batch([0]).labels is None


def test_tokens_of_several_lengths_are_padded_where_a_mask_says_so() -> None:
    short = {"input_ids": torch.ones(20, 4).long(), "attention_mask": torch.ones(20, 4).long()}
    long = {"input_ids": torch.ones(20, 6).long(), "attention_mask": torch.ones(20, 6).long()}

    samples = open_samples([short, long], WORDS)
    batch = samples.batch([0, 39])

    assert batch.args[0].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert batch.kwargs["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    bare = [{"input_ids": one["input_ids"]} for one in (short, long)]
    with pytest.raises(InputError, match=r"data: its samples are of several shapes, \(4,\) and"):
        open_samples(bare, WORDS)
    singles = [
        {"input_ids": [1, 2], "attention_mask": [1, 1], "idx": 5, "text": "a b"} for _ in range(32)
    ]
    samples = open_samples(singles, WORDS)
    assert samples.batch([0]).kwargs["attention_mask"].tolist() == [[1, 1]]
    assert samples.notes == ("the model takes no 'idx': left out",)


def test_plain_values_of_a_call_hold_for_every_sample() -> None:
    ids = torch.ones(32, 5).long()

    batch = open_samples([((ids,), {"scale": 2.0})], WORDS).batch([0, 1])

    assert batch.args[0].shape == (2, 5)
    assert batch.kwargs == {"scale": 2.0}


@pytest.mark.parametrize(
    ("given", "taker", "words"),
    [
        ([((1.0,), {})], LINEAR, r"cannot be cut into samples: no tensor"),
        ([(([ROWS],), {})], LINEAR, "its argument 0 holds tensors in a container"),
        ([(ROWS, ROWS), {"input": ROWS, "x": ROWS}, ((ROWS,), {"b": ROWS})], LINEAR, "item 3 has"),
        ([{"a": ROWS, "b": ROWS}], LINEAR, r"have 'a', 'b', none of them.*name them 'input'"),
        ([], LINEAR, "it gives no samples; see that it can be iterated again"),
        ([(ROWS, ROWS, ROWS, ROWS)], None, "its items have 4 values, the model takes 2 tensors"),
        ([(ROWS, ROWS[:3])], None, r"item 1 has tensors of several lengths.*1 \(3, 4\)"),
        ([ROWS[:31]], LINEAR, "it gives 31 samples, expected 32 or more"),
        ({"attention_mask": torch.tensor(3.0)}, WORDS, "tensors of several lengths, or of none"),
        ({"attention_mask": ROWS}, WORDS, "the model does not take"),
    ],
)
def test_items_that_do_not_fit_are_refused(given: Any, taker: Taker | None, words: str) -> None:
    two = TensorInput(shape=(1, 4))
    pair = Taker(nn.Bilinear(4, 4, 2), DummyCall((two, two), {}))

    with pytest.raises(InputError, match=words):
        open_samples(given, taker or pair)


def test_pictures_of_an_iterable_are_those_of_files() -> None:
    image = pytest.importorskip("PIL.Image")
    colours = [(n, 100, 200) for n in range(32)]
    pillows = [image.new("RGB", (12, 10), colour) for colour in colours]
    single = [torch.tensor(c, dtype=torch.uint8).view(3, 1, 1).expand(3, 10, 12) for c in colours]

    forms = {
        "pillow": pillows,
        "rows": [{"image": one, "label": 1} for one in pillows],
        "bytes": single,
        "last": [one.permute(1, 2, 0) for one in single],
        "batch": torch.stack(single),
        "batches": [torch.stack(single[:16]), torch.stack(single[16:]).permute(0, 2, 3, 1)],
    }
    for name, given in forms.items():
        samples = open_samples(given, COLOUR, BYTES)
        assert samples.batch([5]).args[0][0, :, 4, 4].round().tolist() == [5, 100, 200], name
        assert samples.notes == (
            "bytes are taken as pictures, normalised by mean 0 and deviation 0.00392, as given",
        )
    grey = [torch.full((10, 12), n, dtype=torch.uint8) for n in range(32)]
    for given in (grey, torch.stack(grey)):
        assert rows_of(open_samples(given, GREY, BYTES))[5].mean().round() == 5
    with pytest.raises(InputError, match=r"item 1 is a picture, the model takes \(1, 4\)"):
        open_samples(pillows, LINEAR)


def test_numbers_of_pictures_stay_as_they_are() -> None:
    maps = torch.rand(32, 3, 8, 8)

    for given in (maps, list(maps), [(maps, torch.arange(32))]):
        assert torch.equal(rows_of(open_samples(given, COLOUR)), maps)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file with callables that give data, in the present folder."""
    file = tmp_path / f"data_{abs(hash(tmp_path)) % 10**8}.py"
    file.write_text(
        "import torch\n"
        "def loader(count=4):\n"
        "    for number in range(count):\n"
        "        yield torch.full((10, 4), float(number)), torch.arange(10)\n"
        "def call(width):\n"
        "    return (torch.ones(32, width),), {}\n"
        "def broken():\n"
        "    yield torch.ones(8, 4)\n"
        "    raise KeyError('disk')\n"
        "def nothing():\n"
        "    return None\n"
        "def refuse():\n"
        "    import modswap\n"
        "    yield torch.ones(8, 4)\n"
        "    modswap.load('nowhere.pt')\n"
    )
    monkeypatch.chdir(tmp_path)
    return file


def test_callable_of_a_file_gives_batches_or_a_call(script: Path) -> None:
    samples = open_samples(f"{script.name}:loader", LINEAR)

    assert samples.count == 40
    assert samples.description == f"40 samples of {script.name}:loader, as they are"
    assert open_samples(f"{script.name}:loader(count=5)", LINEAR).count == 50
    assert open_samples(f"{script.name}:call(width=4)", LINEAR).count == 32


def test_faults_of_a_callable_are_named(script: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--data: the factory '{script.name}:broken' raised K"):
        open_samples(f"{script.name}:broken", LINEAR)
    with pytest.raises(UsageError, match=rf'give what it lacks: `--data "{script.name}:call\(wid'):
        open_samples(f"{script.name}:call", LINEAR)
    with pytest.raises(UsageError, match="nothing gives NoneType, expected batches"):
        open_samples(f"{script.name}:nothing", LINEAR)
    with pytest.raises(RecipeError, match="has no 'loadr'; did you mean 'loader'"):
        open_samples(f"{script.name}:loadr", LINEAR)
    with pytest.raises(Exception, match=r"^nowhere\.pt: no such file"):
        open_samples(f"{script.name}:refuse", LINEAR)


def test_exceptions_of_an_iterable_from_python_stay() -> None:
    def broken() -> Iterator[Any]:
        yield ROWS
        raise KeyError("disk")

    with pytest.raises(KeyError, match="disk"):
        open_samples(broken(), LINEAR)
    with pytest.raises(UsageError, match="the int given gives int, expected batches"):
        open_samples(3, LINEAR)

"""The proof that changed source builds the swapped model.

Covers: child, facts.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.errors import ProofError
from modswap.nn import ECA
from modswap.ops.code.building.builder import Builder
from modswap.ops.code.proof.child import difference_of
from modswap.ops.code.proof.prove import Proof, judged, prove
from modswap.ops.run.inputs import DummyCall
from tests.ops.code.cases import proved_here

OLD = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a = nn.Conv2d(8, 8, 1)
        self.b = nn.Conv2d(8, 8, 1)
        self.tail = nn.ReLU()

    def forward(self, x):
        return self.tail(self.b(self.a(self.stem(x))))
"""
NEW = OLD.replace("from torch", "from modswap.nn import ECA\nfrom torch")
RIGHT = NEW.replace("self.a = nn.Conv2d(8, 8, 1)", "self.a = ECA(8)").replace(
    "self.b = nn.Conv2d(8, 8, 1)", "self.b = self.a"
)
WRONG = {
    "an option": (RIGHT.replace("ECA(8)", "ECA(8); self.a.note = 'other'"),
                  "the option 'a.note' is 'other', not missing"),
    "lost sharing": (RIGHT.replace("self.b = self.a", "self.b = ECA(8)"),
                     "the module 'b' is b, not a"),
    "another class": (RIGHT.replace("nn.ReLU()", "nn.ReLU6()"),
                      "the class 'tail' is torch.nn.modules.activation.ReLU6, not"),
    "a missing module": (RIGHT.replace("self.tail = nn.ReLU()", "self.tail = nn.functional.relu"),
                         "the class 'tail' is missing, not"),
    "other names": (RIGHT.replace("self.stem", "self.stem_"), "Error(s) in loading state_dict"),
    "another forward": (RIGHT.replace("self.tail(self.b", "(self.b"), "outputs differ by"),
    "another shape": (RIGHT.replace("return self", "return 2, self.tail(x), self"),
                      "its outputs have other shapes"),
    "what raises": (RIGHT.replace("super()", "1 / 0; super()"), "raised ZeroDivisionError"),
    "what is no Python": (RIGHT + "(", "was never closed"),
}  # fmt: skip


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proof:
    """Return the proof for a network that shares one new module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    (tmp_path / "proved_net.py").write_text(OLD)
    space: dict[str, type[nn.Module]] = {"__name__": "proved_net"}  # type: ignore[dict-item] # a name
    exec(OLD, space)
    model = space["Net"]()
    model.a = model.b = ECA(8)
    builder = Builder("proved_net:Net", str(tmp_path), "--model")
    call = DummyCall(({"shape": [1, 3, 6, 6]},), {})
    return Proof(model.eval(), ("a", "b"), builder, (), (call,), 0)


def texts(text: str) -> Mapping[str, bytes]:
    return {str(Path("proved_net.py").absolute()): text.encode()}


def test_right_change_is_proved(proof: Proof) -> None:
    assert proved_here(proof, texts(RIGHT)).apart == 0


def test_double_precision_is_kept(proof: Proof) -> None:
    assert proved_here(replace(proof, swapped=proof.swapped.double()), texts(RIGHT)).modules == 7


@pytest.mark.parametrize("name", WRONG)
def test_wrong_change_is_not_proved(name: str, proof: Proof) -> None:
    text, reason = WRONG[name]

    with pytest.raises(ProofError) as refused:
        proved_here(proof, texts(text))

    assert "the changed source is not proved: " in str(refused.value)
    assert reason in str(refused.value)


@pytest.mark.slow
def test_fresh_process_sees_the_new_text_and_not_the_file(proof: Proof) -> None:
    assert prove(proof, texts(RIGHT)).apart == 0
    with pytest.raises(ProofError, match="the process ended"):
        prove(proof, texts(RIGHT.replace("super()", "import os; os._exit(3); super()")))
    assert Path("proved_net.py").read_text() == OLD


def test_distance_is_relative_to_large_outputs(proof: Proof) -> None:
    asked: dict[str, dict[str, dict[str, str]]] = {"facts": {"class": {}}}

    assert judged({"apart": 4e-5, "largest": 640.0}, proof, asked).apart == 4e-5 / 640
    assert judged({"apart": 4e-7, "largest": 0.5}, proof, asked).apart == 4e-7
    with pytest.raises(ProofError, match=r"outputs differ by 0\.001"):
        judged({"apart": 1e-3, "largest": 640.0}, proof, asked)


def test_differences_count_infinities_and_complex_numbers() -> None:
    inf, nan = float("inf"), float("nan")

    assert difference_of(torch.tensor([1.0, inf, nan]), torch.tensor([1.5, inf, nan])) == 0.5
    assert difference_of(torch.tensor([nan]), torch.tensor([0.0])) == inf
    assert difference_of(torch.tensor([1 + 1j]), torch.tensor([1 + 3j])) == 2
    assert difference_of(torch.zeros(0), torch.zeros(0)) == 0

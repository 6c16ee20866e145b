"""Default dictionaries, other containers, and whether the advice to allow a class can work."""

import copy
import functools
import re
from argparse import Namespace
from ast import literal_eval
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import torch
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.torch.default_dict import FilledDict, called_names, refuse_factories
from modswap.io.pickled.data import Instance, Name
from tests.models import GatedNet
from tests.recipes import UNEXAMINED

RECIPE = f"""version: 1
model: {{factory: 'tests.models:build_gated'}}
{UNEXAMINED}replace:
  - {{match: space_attention, with: SEBlock, layout: NCHW, args: {{channel: 16}}}}
"""
TYPES = (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)


class Holder(nn.Module):
    """A layer that counts its calls in a default dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Any = defaultdict(int, {"a": 1})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen[x.ndim] += 1
        return x


def made_by_user() -> int:
    return 5


class OwnDict(dict[str, int]):
    """A dictionary of its own class."""


class OwnList(list[int]):
    """A list of its own class."""


class OwnSet(set[int]):
    """A set of its own class."""


class Colour(Enum):
    """A choice."""

    RED = 1


class Pair(NamedTuple):
    """Two numbers."""

    a: int
    b: int


@dataclass
class Settings:
    """The settings of a run."""

    rate: float = 0.1


class Plain:
    """An object with attributes."""

    def __init__(self) -> None:
        self.a = 1


def saved(extra: Any, folder: Path) -> Path:
    torch.save({"state_dict": GatedNet().state_dict(), "extra": extra}, folder / "net.pt")
    return folder / "net.pt"


def loaded(file: Path, *allow: str) -> nn.Module:
    return modswap.load(file, "tests.models:build_gated", allow=list(allow))


@pytest.mark.parametrize("factory", [None, Counter, OrderedDict, defaultdict, *TYPES])
def test_default_dictionary_of_plain_data_needs_no_permission(factory: Any, tmp_path: Path) -> None:
    layer: Any = nn.ReLU()
    layer.kept = defaultdict(factory, {"a": 1, (1, 2): [3]})
    torch.save(nn.Sequential(layer), tmp_path / "net.pt")

    kept: Any = modswap.load(tmp_path / "net.pt")[0].kept  # type: ignore[index] # a Sequential

    assert kept == {"a": 1, (1, 2): [3]}
    assert kept.default_factory is factory
    if factory is not None:
        assert kept["new"] == factory()
    torch.save(kept, tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=False)  # noqa: TID251 - what others read
    assert type(again) is type(copy.deepcopy(kept)) is defaultdict
    assert again == kept


def test_layer_with_a_default_dictionary_runs(tmp_path: Path) -> None:
    torch.save(Holder(), tmp_path / "net.pt")

    layer: Any = modswap.load(tmp_path / "net.pt", allow=[f"{__name__}.*"])
    layer(torch.ones(2, 3))

    assert layer.seen == {"a": 1, 2: 1}


@pytest.mark.parametrize("legacy", [False, True])
def test_nested_and_shared_default_dictionaries_are_read(tmp_path: Path, *, legacy: bool) -> None:
    inner: Any = defaultdict(list, {"a": [1]})
    outer: Any = defaultdict(dict, b=inner)
    payload = {"net": GatedNet().state_dict(), "x": outer, "y": inner}
    file = tmp_path / "net.pt"
    torch.save(payload, file, _use_new_zipfile_serialization=not legacy)

    assert isinstance(loaded(file), GatedNet)


def test_weights_in_a_default_dictionary_are_read_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights: Any = defaultdict(None, GatedNet().state_dict())
    whole: Any = defaultdict(list, {"state_dict": weights})
    torch.save(whole, tmp_path / "net.pt")
    (tmp_path / "swap.yaml").write_text(RECIPE)

    for more in ([], ["--no-forward"]):
        swap = ["replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", "--force", *more]
        assert run([*swap, "--input", "1,3,16,16"]) == 0
    assert run(["tree", "out.pt"]) == 0
    assert "space_attention" in capsys.readouterr().out
    out = torch.load(tmp_path / "out.pt", weights_only=False)  # noqa: TID251 - what others read
    assert [type(out), type(out["state_dict"])] == [defaultdict, defaultdict]
    assert out.default_factory is list


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (made_by_user, f"{__name__}.made_by_user"),
        (torch.nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (Path, "pathlib.Path"),
    ],
)
def test_factory_of_ones_own_is_allowed_by_its_full_name(
    factory: Any, named: str, tmp_path: Path
) -> None:
    file = saved(defaultdict(factory, {"a": 1}), tmp_path)

    for allow in ([], [f"{__name__}.*"]):
        with pytest.raises(UnsafeError, match=f"that calls {re.escape(named)} for missing") as of:
            loaded(file, *allow)
        assert f"allow=['{named}'] admits it" in of.value.fix
    assert isinstance(loaded(file, named), GatedNet)


def test_factory_that_is_an_object_is_refused(tmp_path: Path) -> None:
    file = saved(defaultdict(functools.partial(int, 5), {"a": 1}), tmp_path)

    with pytest.raises(UnsafeError, match="that calls an object of its own for missing") as of:
        loaded(file, "functools.partial", "builtins.int")
    assert "allow" not in of.value.fix


@pytest.mark.parametrize("args", [(1,), ([],), (Name("os", "system"),), (None, {}), ("int",)])
def test_odd_arguments_are_refused(args: tuple[Any, ...]) -> None:
    made = Instance("called", Name("collections", "defaultdict"), args)

    with pytest.raises(UnsafeError, match="would have to be built that calls"):
        refuse_factories([made], frozenset(), Path("net.pt"))


class Calling:
    """An object that a pickle makes by calling something."""

    def __init__(self, *how: Any) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return self.how


V2: Any = vars(torch._tensor)["_rebuild_from_type_v2"]


@pytest.mark.parametrize(
    "value",
    [
        Calling(int, ("12",)),
        Calling(str, (b"a", "punycode")),
        Calling(V2, (bytes, torch.Tensor, (9,), {})),
        Calling(V2, (V2, torch.Tensor, (str, torch.Tensor, (b"a", "punycode"), {}), {})),
        [int, Calling(int, ("12",))],
    ],
)
def test_data_types_that_a_file_calls_need_permission(value: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match=r"builtins\.\w+ would be called|or called: builtins"):
        loaded(saved(value, tmp_path))


def test_data_types_that_a_file_holds_need_none(tmp_path: Path) -> None:
    assert isinstance(loaded(saved([int, {"kind": str}], tmp_path)), GatedNet)
    assert called_names([]) == frozenset()


def test_dictionaries_are_equal_to_plain_ones_alone() -> None:
    kinds: list[Any] = [OrderedDict, dict, defaultdict]

    assert [kind for kind in kinds if kind in [FilledDict]] == [dict]
    assert FilledDict in {FilledDict: 1}


# advice


PAYLOADS: Mapping[str, Callable[[], Any]] = {
    "default dictionary": lambda: defaultdict(made_by_user, {"a": 1}),
    "of a partial": lambda: defaultdict(functools.partial(int, 5)),
    "own dictionary": lambda: OwnDict(a=1),
    "empty own dictionary": OwnDict,
    "own list": lambda: OwnList([1]),
    "own set": lambda: OwnSet([1]),
    "queue": lambda: deque([1, 2], 3),
    "user dictionary": lambda: UserDict(a=1),
    "choice": lambda: Colour.RED,
    "pair": lambda: Pair(1, 2),
    "settings": Settings,
    "object": Plain,
    "function": lambda: made_by_user,
    "partial": lambda: functools.partial(made_by_user),
    "path": lambda: Path("a/b"),
    "date": lambda: date(2026, 1, 2),
    "moment": lambda: datetime(2026, 1, 2, tzinfo=UTC),
    "decimal": lambda: Decimal("1.5"),
    "fraction": lambda: Fraction(1, 3),
    "identifier": lambda: UUID(int=5),
    "namespace": lambda: Namespace(a=1),
    "class": lambda: Plain,
    "type": lambda: int,
    "error": lambda: ValueError("x"),
    "range": lambda: range(3),
    "slice": lambda: slice(1, 2),
    "several": lambda: [Plain(), Colour.RED, deque([1]), Decimal(1)],
    "layer": Holder,
}


def outcome(file: Path, allow: list[str]) -> tuple[str, list[str]]:
    """Return the error of loading a file, empty if it is loaded, and what its advice allows."""
    try:
        loaded(file, *allow)
    except (UnsafeError, CheckpointError) as error:
        lists = re.findall(r"allow=(\[.*?\])", error.fix)
        return error.what, [name for one in lists for name in literal_eval(one)]
    return "", []


@pytest.mark.parametrize("name", PAYLOADS)
def test_advice_to_allow_ends_in_a_file_that_is_loaded(name: str, tmp_path: Path) -> None:
    file = saved(PAYLOADS[name](), tmp_path)
    allow: list[str] = []
    errors = []

    error, advice = outcome(file, allow)
    while advice:
        errors.append(error)
        allow += [one for one in advice if one != "package.*"]
        error, advice = outcome(file, allow)
        assert error not in errors

    assert not (errors and error), error


def test_container_that_no_safe_loader_fills_gets_other_advice(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match=r"1 name that is not allowed .*OwnDict") as of:
        loaded(saved(OwnDict(a=1), tmp_path))

    assert of.value.fix.startswith(
        "save them as plain dictionaries and lists, since no safe loader"
    )
    assert "allow" not in of.value.fix

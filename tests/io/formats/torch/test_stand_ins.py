"""What a file may build of a package that its user allowed: nothing that runs code of a class.

Covers: plain_classes, shells.
"""

import io
import pickle
import pickletools
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.reading import read
from modswap.io.formats.torch.plain_classes import kind_of
from modswap.io.formats.torch.shells import shell_of

SOURCE = """
import argparse, enum, os, pathlib, types
from collections import namedtuple
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar
from torch import nn

def ran(*args, **kwargs):
    pathlib.Path(os.environ["CANARY"]).touch()

class Layer(nn.Module):
    pass

class Strict(nn.Module):
    def __new__(cls, *args):
        if args:
            ran()
        return super().__new__(cls)

class Meta(type):
    def __getattribute__(cls, name):
        if name == "__new__":
            ran()
        return super().__getattribute__(name)

class Asked(nn.Module, metaclass=Meta):
    pass

class Gone(nn.Module):
    def __del__(self):
        ran()

@dataclass
class Settings:
    rate: float = 0.1
    sizes: list = field(default_factory=list)
    def __post_init__(self):
        ran()

@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: str

@dataclass(slots=True)
class Slotted:
    a: int
    def __setattr__(self, name, value):
        ran()

class Derived(Settings):
    __init__ = __setattr__ = __getattr__ = __new__ = __init_subclass__ = ran
    __eq__ = __iter__ = __len__ = __bool__ = __contains__ = __getitem__ = ran

class Watched(Settings):
    __getattribute__ = ran

@dataclass
class Restored:
    a: int = 1
    def __setstate__(self, state):
        ran()

@dataclass
class Reduced:
    a: int = 1
    def __reduce__(self):
        return Reduced, ()

@dataclass
class Hashed:
    a: int = 1
    def __hash__(self):
        ran()
        return 1

@dataclass
class Dropped:
    a: int = 1
    def __del__(self):
        ran()

@dataclass
class Words(dict):
    a: int = 1

@dataclass
class Acts:
    act: object = ran

class Space(types.SimpleNamespace):
    def __init__(self, **kwargs):
        ran()
    def __setattr__(self, name, value):
        ran()
    def __setitem__(self, name, value):
        ran()

class Args(argparse.Namespace):
    def __init__(self, **kwargs):
        ran()

T = TypeVar("T")

@dataclass
class Typed(Generic[T]):
    a: T

class Colour(enum.Enum):
    RED = 1
    BLUE = ("b", 2)
    @classmethod
    def _missing_(cls, value):
        ran()

class Level(enum.IntEnum):
    LOW = 1

class Modes(enum.Flag):
    A = 1
    B = 2

class Loud(enum.Flag):
    A = 1
    B = 2
    @classmethod
    def _missing_(cls, value):
        ran()

class KeyedEnum(enum.Enum):
    A = 1
    def __hash__(self):
        ran()
        return 1

Pair = namedtuple("Pair", "x y")

class Point(NamedTuple):
    x: int
    y: int = 2

class Made(Pair):
    def __new__(cls, *args):
        ran()

class Walked(Pair):
    def __iter__(self):
        ran()

class Plain:
    def __init__(self, *args):
        ran()
    def __setstate__(self, state):
        ran()

class Bare:
    pass

def function(*args):
    ran()
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package of a user, whose classes say when their code runs."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "hostpkg").mkdir()
    (folder / "hostpkg" / "__init__.py").write_text("")
    (folder / "hostpkg" / "nets.py").write_text(SOURCE)
    (folder / "hostpkg" / "__main__.py").write_text("from hostpkg.nets import ran, Layer\nran()\n")
    (folder / "hostpkg" / "script.py").write_text("from hostpkg import nets\nnets.ran()\n")
    (folder / "hostpkg" / "made_up.py").write_text(
        "from hostpkg.nets import ran, Layer as Real\ndef __getattr__(name):\n"
        "    if not name.startswith('__'):\n        ran()\n        return Real\n# Layer\n"
    )
    sys.path.insert(0, str(folder))
    yield "hostpkg"
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "hostpkg"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    return tmp_path / "canary"


# -- pickles by hand


def name(cls: str, module: str = "hostpkg.nets") -> bytes:
    return f"c{module}\n{cls}\n".encode()


def new(cls: str, *args: bytes, state: bytes = b"", module: str = "hostpkg.nets") -> bytes:
    made = name(cls, module) + b"(" + b"".join(args) + b"t\x81"
    return made + (state + b"b" if state else b"")


def call(cls: str, *args: bytes, state: bytes = b"") -> bytes:
    made = name(cls) + b"(" + b"".join(args) + b"tR"
    return made + (state + b"b" if state else b"")


def data(value: Any) -> bytes:
    """Return what pushes plain data."""
    return pickle.dumps(value, 2)[2:-1]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def saved(code: bytes, folder: Path, *, legacy: bool = False) -> Path:
    """Write a checkpoint of a weight and an object."""
    stream = io.BytesIO()
    payload = {"model": {"w": torch.ones(1)}}
    torch.save(payload, stream, _use_new_zipfile_serialization=not legacy)
    if legacy:
        stream.seek(0)
        end: int | None = None
        for _ in range(4):  # magic number, version, system, payload
            *_, (_, _, end) = pickletools.genops(stream)
        held = stream.getvalue()
        assert end is not None
        body = held[:end] + text("x") + code + b"s" + held[end:]
        (folder / "net.pt").write_bytes(body)
        return folder / "net.pt"
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(folder / "net.pt", "w") as out:
        for entry in old.infolist():
            held = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                held = held[:-1] + text("x") + code + b"s."
            out.writestr(zipfile.ZipInfo(entry.filename), held)
    return folder / "net.pt"


def loaded(code: bytes, folder: Path, *allow: str) -> Any:
    policy = Policy(allow=allow or ("hostpkg.*",))
    return read(saved(code, folder), policy).payload["x"]


FIELDS = data({"a": 1, "b": [2]})


@pytest.mark.parametrize(
    ("code", "cls", "expected"),
    [
        (new("Settings", state=data({"rate": 0.5})), "Settings", {"rate": 0.5}),
        (new("Settings"), "Settings", {}),
        (new("Acts", state=data({"act": "gelu"})), "Acts", {"act": "gelu"}),
        (call("Settings", state=FIELDS), "Settings", {"a": 1, "b": [2]}),
        (new("Typed", state=FIELDS), "Typed", {"a": 1, "b": [2]}),
        (new("Args", state=FIELDS), "Args", {"a": 1, "b": [2]}),
        (call("Space", state=FIELDS), "Space", {"a": 1, "b": [2]}),
        (call("Space"), "Space", {}),
        (new("Settings", state=data(({"a": 1}, {"b": 2}))), "Settings", {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_data_are_built_by_their_attributes_alone(
    code: bytes, cls: str, expected: dict[str, Any], package: str, tmp_path: Path, canary: Path
) -> None:
    found = loaded(code, tmp_path)

    assert type(found).__name__ == cls
    assert type(found) is getattr(sys.modules["hostpkg.nets"], cls)
    assert vars(found) == expected
    assert not canary.exists()


def test_class_that_overrides_everything_is_built_without_it(
    package: str, tmp_path: Path, canary: Path
) -> None:
    found = loaded(new("Derived", state=FIELDS), tmp_path)

    assert not canary.exists()
    assert object.__getattribute__(found, "__dict__") == {"a": 1, "b": [2]}
    assert type(found).__name__ == "Derived"


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (new("Frozen", state=data([1, "two"])), {"a": 1, "b": "two"}),
        (new("Slotted", state=data((None, {"a": 3}))), {"a": 3}),
    ],
)
def test_data_in_slots_are_built(
    code: bytes, fields: dict[str, Any], package: str, tmp_path: Path, canary: Path
) -> None:
    found = loaded(code, tmp_path)

    assert {key: getattr(found, key) for key in fields} == fields
    assert not canary.exists()


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (call("Colour", data(1)), "Colour.RED"),
        (call("Colour", data(("b", 2))), "Colour.BLUE"),
        (call("Level", data(1)), "1"),
        (call("Modes", data(1)), "Modes.A"),
        (call("Modes", data(3)), "Modes.A|B"),
        (new("Pair", data(1), data("y")), "Pair(x=1, y='y')"),
        (new("Point", data(1), data(2)), "Point(x=1, y=2)"),
    ],
)
def test_enumerations_and_named_tuples_are_built(
    code: bytes, shown: str, package: str, tmp_path: Path, canary: Path
) -> None:
    assert str(loaded(code, tmp_path)) == shown
    assert not canary.exists()


def test_named_tuple_is_made_of_its_content_alone(
    package: str, tmp_path: Path, canary: Path
) -> None:
    assert tuple(loaded(new("Made", data(1), data(2)), tmp_path)) == (1, 2)
    assert not canary.exists()


def test_layers_are_built_and_named_as_values(package: str, tmp_path: Path, canary: Path) -> None:
    state = data(vars(nn.Identity()))
    code = b"(" + new("Layer", state=state) + new("Strict", state=state) + name("Layer") + b"t"

    layer, strict, cls = loaded(code, tmp_path)

    assert isinstance(layer, nn.Module)
    assert type(strict).__name__ == "Strict"
    assert type(layer) is cls
    assert not canary.exists()


def test_class_that_is_only_named_is_itself_the_value(package: str, tmp_path: Path) -> None:
    assert loaded(name("Settings"), tmp_path).__name__ == "Settings"


REFUSED = {
    "a call with arguments": call("Settings", data(1)),
    "an instance with arguments": new("Space", data(1)),
    "a call of a named tuple": call("Pair", data(1), data(2)),
    "an instance of an enumeration": new("Colour", data(1)),
    "an unknown member": call("Colour", data(9)),
    "a member by another type": call("Level", data(1.0)),
    "a member by an object": call("Colour", new("Settings")),
    "a sum of flags with code": call("Loud", data(3)),
    "an enumeration with a hash": call("KeyedEnum", data(1)),
    "a named tuple with its own iterator": new("Walked", data(1), data(2)),
    "its own __setstate__": new("Restored", state=FIELDS),
    "its own __reduce__": new("Reduced", state=FIELDS),
    "its own __del__": new("Dropped", state=FIELDS),
    "its own __getattribute__": new("Watched", state=FIELDS),
    "a dictionary": new("Words", state=FIELDS),
    "a plain class": new("Plain", state=FIELDS),
    "a plain class that is called": call("Plain", text("x")),
    "a class without methods": new("Bare", state=FIELDS),
    "a function": call("function", data(1)),
    "a layer that is called": call("Layer"),
    "a layer that is given arguments": new("Strict", data(1), state=FIELDS),
    "a metaclass of its own": new("Asked", state=FIELDS),
    "a layer with __del__": new("Gone", state=FIELDS),
    "a class that is built and held": b"(" + new("Settings") + name("Settings") + b"t",
    "a module that was imported": call("os.system", text("true")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_takes_code_of_a_class_is_refused(
    case: str, package: str, tmp_path: Path, canary: Path
) -> None:
    with pytest.raises(UnsafeError, match="to load it, "):
        loaded(REFUSED[case], tmp_path)

    assert not canary.exists()


DAMAGED = {
    "a state that is a text": new("Settings", state=text("x")),
    "a state that is a number in two": new("Settings", state=data((1, {}))),
    "an attribute that is a number": new("Settings", state=data({1: 2})),
    "an attribute without a place": new("Frozen", state=data((None, {"c": 2}))),
    "a state of an enumeration": call("Level", data(1), state=FIELDS),
    "an object as key": b"}" + new("Hashed", state=FIELDS) + b"Ns",
    "an object in a set": b"c__builtin__\nset\n(]" + new("Hashed", state=FIELDS) + b"atR",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_data_of_another_form_are_refused(
    case: str, package: str, tmp_path: Path, canary: Path
) -> None:
    with pytest.raises((CheckpointError, UnsafeError)):
        loaded(DAMAGED[case], tmp_path)

    assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "cls"),
    [
        ("hostpkg.__main__", "Layer"),
        ("hostpkg.__init__", "Layer"),
        ("hostpkg.script", "Layer"),
        ("hostpkg.made_up", "Layer"),
        ("hostpkg.nets.nn.modules.linear", "Linear"),
        ("hostpkg.nets", "nn.Linear"),
        ("hostpkg.nets", "Layer.__class__"),
        ("hostpkg.nets", "Layer.forward"),
        ("hostpkg.nosuch", "Layer"),
        ("hostpkg", "nets"),
    ],
)
def test_file_chooses_no_module_to_import_and_no_attribute_to_ask(
    module: str, cls: str, package: str, tmp_path: Path, canary: Path
) -> None:
    with pytest.raises(UnsafeError, match="not allowed would have to be built"):
        loaded(new(cls, state=FIELDS, module=module), tmp_path)

    assert not canary.exists()
    assert "hostpkg.script" not in sys.modules
    assert "hostpkg.__main__" not in sys.modules


def test_full_name_admits_a_class_with_its_code(package: str, tmp_path: Path, canary: Path) -> None:
    loaded(new("Restored", state=FIELDS), tmp_path, "hostpkg.nets.Restored")

    assert canary.exists()


@pytest.mark.parametrize("case", ["a call with arguments", "its own __setstate__", "a plain class"])
def test_old_file_is_held_to_the_same(
    case: str, package: str, tmp_path: Path, canary: Path
) -> None:
    with pytest.raises(UnsafeError):
        read(saved(REFUSED[case], tmp_path, legacy=True), Policy(allow=("hostpkg.*",)))

    assert not canary.exists()


def test_old_file_with_data_of_a_package_loads(package: str, tmp_path: Path, canary: Path) -> None:
    file = saved(new("Settings", state=FIELDS), tmp_path, legacy=True)

    payload = read(file, Policy(allow=("hostpkg.*",))).payload

    assert vars(payload["x"]) == {"a": 1, "b": [2]}
    assert not canary.exists()


@pytest.mark.parametrize("pattern", ["torch.*", "builtins.*", "__main__.*", "*", "os.*"])
def test_pattern_of_python_or_torch_admits_nothing(
    pattern: str, tmp_path: Path, canary: Path
) -> None:
    code = b"ctorch._C\nPyTorchFileWriter\n(" + text(str(canary)) + b"tR"

    with pytest.raises(UnsafeError, match=r"torch\._C\.PyTorchFileWriter can run any code"):
        loaded(code, tmp_path, pattern)

    assert not canary.exists()


def test_sound_objects_survive_a_round_trip(package: str, tmp_path: Path) -> None:
    import hostpkg.nets as nets  # type: ignore[import-not-found] # made by the fixture

    value = nets.Typed({"pairs": [nets.Pair(1, 2)], "level": nets.Level.LOW, nets.Modes.A: 3})
    torch.save({"model": {"w": torch.ones(1)}, "x": value}, tmp_path / "net.pt")

    found = read(tmp_path / "net.pt", Policy(allow=("hostpkg.*",))).payload["x"]

    assert found == value
    assert type(found.a["pairs"][0]) is nets.Pair


def test_settings_of_known_libraries_are_data_and_classes_of_unknown_layout_are_not() -> None:
    known = {"__module__": "transformers.configuration_utils", "__setstate__": print}
    loose = {"__dataclass_fields__": {}, "__slots__": iter(["a"])}

    assert kind_of(type("PreTrainedConfig", (), known)) == "attributes"
    assert kind_of(type("Other", (), known)) is None
    assert kind_of(type("Loose", (), loose)) is None


def test_settings_of_omegaconf_get_the_attribute_that_their_pickles_lack() -> None:
    node = type("Node", (), {"__module__": "omegaconf.base", "__setstate__": print})
    shell = shell_of(node)
    assert shell is not None
    made = shell()

    made.__setstate__({"_val": 1})

    assert kind_of(node) == "attributes"
    assert vars(made) == {"_flags_cache": None, "_val": 1}


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({1: 2}, "an attribute named by a int"),
        ((None, {"c": 1}), "an attribute that its class has no place for"),
        ("text", "a str as its state"),
        (([], {}), "a list as its state"),
    ],
)
def test_shell_takes_attributes_alone(state: Any, what: str) -> None:
    shell = shell_of(type("Slots", (), {"__slots__": ("a",), "__dataclass_fields__": {}}))
    assert shell is not None

    with pytest.raises(pickle.UnpicklingError, match=what):
        shell().__setstate__(state)


def test_package_that_is_allowed_and_not_installed_is_named(tmp_path: Path) -> None:
    told = r"'nosuchpkg\.nets\.Net' is allowed but cannot be found: no module named 'nosuchpkg'"

    with pytest.raises(UnsafeError, match=told):
        loaded(new("Net", state=FIELDS, module="nosuchpkg.nets"), tmp_path, "nosuchpkg.*")

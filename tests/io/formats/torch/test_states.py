"""Attributes in a pickle that would run as code: planted methods, tables, hooks."""

import copyreg
import io
import pickle
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from functools import partialmethod, singledispatchmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import modswap
from modswap.cli.app import run
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.torch.states import Known, refuse_planted
from modswap.io.pickled.data import Instance, Name
from tests.io.pickled.test_outline import with_pickle
from tests.models import GatedNet

RELU = nn.functional.relu
STATES: dict[int, Any] = {}  # by the id of an object: what is pickled as its state


class Raw:
    """Operations that push one object, at any place of the pickled value."""

    def __init__(self, code: bytes) -> None:
        self.code = code


_Pickler: Any = vars(pickle)["_Pickler"]


class Pickler(_Pickler):  # type: ignore[misc] # the base class has no known type
    def save(self, value: Any, **how: Any) -> None:
        if isinstance(value, Raw):
            self.write(value.code)
        else:
            super().save(value, **how)

    def reducer_override(self, value: Any) -> Any:
        if id(value) in STATES:
            return vars(copyreg)["__newobj__"], (type(value),), STATES[id(value)]
        return NotImplemented


def saved(payload: Any, file: Path, *, legacy: bool = False) -> Path:
    """Write a payload that may hold `Raw`, with the states of `STATES`."""
    module = types.SimpleNamespace(
        Pickler=Pickler,
        Unpickler=pickle.Unpickler,
        dump=lambda value, stream, protocol=2: Pickler(stream, protocol).dump(value),
        __name__="pickle",
    )
    stream = io.BytesIO()
    torch.save(payload, stream, pickle_module=module, _use_new_zipfile_serialization=not legacy)
    file.write_bytes(stream.getvalue())
    return file


@pytest.fixture(autouse=True)
def _no_states() -> None:
    STATES.clear()


def net() -> nn.Sequential:
    gate = nn.Sequential(nn.Conv2d(8, 8, 1))
    return nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 8, 1), norm=nn.BatchNorm2d(8), gate=gate)
    ).eval()


def planted(part: str, **attributes: Any) -> nn.Module:
    """Return a network with attributes in a module of it, in place of anything."""
    model = net()
    vars(model.get_submodule(part)).update(attributes)
    return model


def with_state(part: str, change: Callable[[dict[str, Any]], Any]) -> nn.Module:
    model = net()
    module = model.get_submodule(part)
    STATES[id(module)] = change(dict(vars(module)))
    return model


def in_table(part: str, table: str, name: str, value: Any) -> nn.Module:
    model = net()
    vars(model.get_submodule(part))[table][name] = value
    return model


def with_hook(table: str, hook: Any) -> nn.Module:
    return planted("stem", **{table: OrderedDict({0: hook})})


def call(module: str, name: str, *args: bytes) -> bytes:
    return f"c{module}\n{name}\n(".encode() + b"".join(args) + b"tR"


ORDERED = call("collections", "OrderedDict")
PAIR = b"X\x05\x00\x00\x00itemsK\x05"
FORWARD = b"X\x07\x00\x00\x00forwardctorch.nn.functional\nrelu\n"


def object_of(code: bytes) -> Any:
    return {"model": net().state_dict(), "extra": Raw(code)}


META_ARGS = b"(ctorch\nfloat32\nK\x01\x85K\x01\x85\x89t"  # of a tensor without a storage
META = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n" + META_ARGS + b"R"


def tensor_with(hooks: bytes = ORDERED, state: bytes = b"") -> Any:
    """Return a payload with a parameter without a storage, made with hooks and attributes."""
    name = "_rebuild_parameter_with_state" if state else "_rebuild_parameter"
    return object_of(call("torch._utils", name, META, b"\x88", hooks, state))


HOSTILE: Mapping[str, Callable[[], Any]] = {
    # methods of torch, of the class, and places for code that comes later
    "forward": lambda: planted("stem", forward=RELU),
    "train": lambda: planted("", train=RELU),
    "call": lambda: planted("stem", _call_impl=RELU),
    "compiled call": lambda: with_state("stem", lambda s: {**s, "_compiled_call_impl": RELU}),
    "helper of a convolution": lambda: planted("stem", _conv_forward=RELU),
    "helper of a norm": lambda: planted("norm", _check_input_dim=RELU),
    "helper of a sequence": lambda: planted("", append=RELU),
    "class": lambda: planted("stem", _version=1, __class__=RELU),
    "special method": lambda: planted("stem", __len__=RELU),
    "special attribute": lambda: planted("stem", __wrapped__=RELU),
    "module as a method": lambda: planted("stem", forward=nn.ReLU()),
    "number as a method": lambda: planted("stem", forward=5),
    "class as a method": lambda: planted("stem", extra_repr=OrderedDict),
    "other kind of text": lambda: planted("stem", type=RELU),
    # states that an unpickler takes for attributes
    "ordered state": lambda: with_state("", OrderedDict),
    "ordered state of a layer": lambda: with_state("stem", OrderedDict),
    "counted state": lambda: with_state("stem", Counter),
    "list of pairs": lambda: with_state("stem", lambda s: list(s.items())),
    "tuple of pairs": lambda: with_state("stem", lambda s: tuple(s.items())),
    "state and slots": lambda: with_state("stem", lambda s: (s, {"forward": RELU})),
    "slots alone": lambda: with_state("stem", lambda s: (None, s)),
    "names that are no texts": lambda: with_state("stem", lambda s: {**s, 5: RELU}),
    # dictionaries
    "pairs": lambda: object_of(ORDERED + b"](" + b"(" + PAIR + b"teb"),
    "ordered": lambda: object_of(ORDERED + ORDERED + b"(" + PAIR + b"ub"),
    "renamed": lambda: object_of(b"cUserDict\nOrderedDict\n)R}(" + PAIR + b"ub"),
    "new": lambda: object_of(b"ccollections\nOrderedDict\n)\x81}(" + PAIR + b"ub"),
    "counter": lambda: object_of(b"ccollections\nCounter\n)R}(" + PAIR + b"ub"),
    "tuple": lambda: object_of(ORDERED + b"N}(" + PAIR + b"u\x86b"),
    # tables
    "module called forward": lambda: in_table("", "_modules", "forward", nn.ReLU()),
    "parameter called zero_grad": lambda: in_table(
        "stem", "_parameters", "zero_grad", nn.Parameter(torch.ones(1))
    ),
    "buffer called _conv_forward": lambda: in_table(
        "stem", "_buffers", "_conv_forward", torch.ones(1)
    ),
    # hooks
    **{
        f"hook in {table}": lambda table=table: with_hook(table, RELU)  # type: ignore[misc] # a lambda's default
        for table in sorted(vars(nn.Module()))
        if table.endswith("_hooks")
    },
    "module as a hook": lambda: with_hook("_forward_hooks", nn.ReLU()),
    "hook in a plain dictionary": lambda: planted("stem", _forward_hooks={0: RELU}),
    "hook among arguments": lambda: planted(
        "stem",
        _forward_hooks=Raw(
            call("collections", "OrderedDict", b"](K\x00ctorch.nn.functional\nrelu\nta")
        ),
    ),
    "hook in a dictionary among arguments": lambda: planted(
        "stem",
        _forward_hooks=Raw(
            call("collections", "OrderedDict", b"}K\x00ctorch.nn.functional\nrelu\ns")
        ),
    ),
    "hooks in a list": lambda: planted("stem", _forward_hooks=[RELU]),
    "wrapped hook": lambda: with_hook(
        "_load_state_dict_pre_hooks", nn.modules.module._WrappedHook(RELU, nn.ReLU())
    ),
    "hooks of a tensor": lambda: tensor_with(
        b"ccollections\nOrderedDict\n)RK\x00ctorch.nn.functional\nrelu\ns"
    ),
    "hooks of a tensor in a dictionary": lambda: tensor_with(b"}K\x00ctorch\nrelu\ns"),
    "attribute of a tensor": lambda: tensor_with(state=b"}X\x04\x00\x00\x00dataK\x05s"),
    "hooks among the attributes of a tensor": lambda: tensor_with(
        state=b"}X\x0f\x00\x00\x00_backward_hooksK\x05s"
    ),
    "later attributes of a tensor": lambda: object_of(META + b"}" + PAIR + b"sb"),
    "attributes of a tensor of a class": lambda: object_of(
        call(
            "torch._tensor", "_rebuild_from_type_v2",
            b"ctorch._utils\n_rebuild_meta_tensor_no_storage\nctorch\nTensor\n",
            META_ARGS + b"}X\x04\x00\x00\x00dataK\x05s",
        )
    ),
    "slots of a tensor": lambda: tensor_with(state=b"N}X\x04\x00\x00\x00gradK\x05s\x86"),
    "ordered attributes of a tensor": lambda: tensor_with(state=ORDERED),
    "state of a parameter": lambda: object_of(
        b"ctorch.nn.parameter\nParameter\n)\x81}" + PAIR + b"sb"
    ),
    "state of a set": lambda: object_of(b"c__builtin__\nset\n)R}" + PAIR + b"sb"),
}  # fmt: skip


RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 8, 8]}]
replace: [{match: gate, with: SEBlock, args: {channel: 8, reduction: 4}, layout: NCHW}]
"""


# whole modules of the old format are refused at once
WEIGHTS = ("pairs", "ordered", "renamed", "new", "counter", "tuple", "state of a set")
OLD = [name for name in HOSTILE if name in WEIGHTS or "of a tensor" in name]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("name", "legacy"), [*((name, False) for name in HOSTILE), *((name, True) for name in OLD)]
)
def test_planted_code_is_refused(name: str, tmp_path: Path, *, legacy: bool) -> None:
    file = saved(HOSTILE[name](), tmp_path / "net.pt", legacy=legacy)

    with pytest.raises(UnsafeError) as refusal:
        modswap.load(file, "tests.models:build_gated")

    assert "trust=True" in refusal.value.fix


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", HOSTILE)
def test_planted_code_does_not_travel(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(HOSTILE[name](), tmp_path / "net.pt")

    recipe, out = tmp_path / "swap.yaml", tmp_path / "out.pt"
    recipe.write_text(RECIPE)

    code = run(["replace", str(file), "-c", str(recipe), "-o", str(out), "--no-forward"])

    printed = capsys.readouterr()
    assert code == (3 if name == "ordered state" else 4)  # where no module is seen
    assert "--trust" in printed.out + printed.err or code == 3
    assert not out.exists()


class Hooked(nn.Module):
    """A layer of a user, with places that a pickle may fill or must not."""

    slot: Any = None
    limit = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.helper(x)

    def helper(self, x: torch.Tensor) -> torch.Tensor:
        return x

    halved = partialmethod(helper)

    @singledispatchmethod
    def each(self, x: Any) -> Any:
        return x

    @property
    def size(self) -> int:
        return 1


def keep(*_: Any) -> None:
    """Do nothing, as a hook."""


class Bag:
    """A plain object of a user."""

    def __init__(self) -> None:
        self.held = 1

    def method(self) -> int:
        return self.held


class Slotted:
    """A plain object of a user, with a state of two parts."""

    __slots__ = ("__dict__", "held")

    def __init__(self) -> None:
        self.held = 1
        self.more = 2

    def method(self) -> int:
        return self.held


class Setting(Bag):
    """A plain object of a user that sets its own state."""

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state if isinstance(state, dict) else state[0])


def hooked(**attributes: Any) -> nn.Module:
    layer = Hooked()
    vars(layer).update(attributes)
    return nn.Sequential(layer)


def of_state(value: Any, state: Any) -> Any:
    STATES[id(value)] = state
    return {"model": net().state_dict(), "extra": value}


THEIRS: Mapping[str, Callable[[], Any]] = {
    "helper": lambda: hooked(helper=RELU),
    "helper with arguments": lambda: hooked(halved=RELU),
    "helper for each type": lambda: hooked(each=RELU),
    "table with the name of a helper": lambda: hooked(_modules={"halved": nn.ReLU()}),
    "place for code": lambda: hooked(slot=RELU),
    "place for a module": lambda: hooked(slot=nn.ReLU()),
    "hook": lambda: hooked(_forward_hooks=OrderedDict({0: RELU})),
    "method": lambda: of_state(Bag(), {"method": RELU}),
    "pairs": lambda: of_state(Bag(), [("method", RELU)]),
    "second part": lambda: of_state(Slotted(), (None, {"method": RELU})),
    "first part": lambda: of_state(Slotted(), ({"method": RELU}, {"held": 1})),
    "own state": lambda: of_state(Setting(), {"method": RELU}),
    "part of its own state": lambda: of_state(Setting(), ({"method": RELU}, 1)),
}
NAMES = [f"{__name__}.{name}" for name in ("Hooked", "Bag", "Slotted", "Setting")]


@pytest.mark.parametrize("name", THEIRS)
def test_planted_code_in_a_users_own_class_is_refused(name: str, tmp_path: Path) -> None:
    file = saved(THEIRS[name](), tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match=r"in place of the method|would be called|plain dict"):
        modswap.load(file, "tests.models:build_gated", allow=NAMES)


def sound_hooks() -> nn.Module:
    model = nn.Sequential(
        nn.utils.weight_norm(nn.Linear(2, 2)),
        nn.utils.spectral_norm(nn.Linear(2, 2)),
        prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5),
    )
    model.register_forward_hook(keep)
    return model


def sound_tensor() -> nn.Module:
    model = net()
    model.stem.weight.step = 5  # type: ignore[union-attr] # an attribute of a user
    model.register_buffer("kept", torch.ones(1))
    model.kept.step = 5  # type: ignore[union-attr] # as above
    return model


class Bound:
    """A method of an object, as a pickle asks for it."""

    def __init__(self, of: Any, name: str) -> None:
        self.of, self.name = of, name

    def __reduce__(self) -> Any:
        return getattr, (self.of, self.name)


PRE, LOAD = "_forward_pre_hooks", "_load_state_dict_pre_hooks"


def lazy(table: str = "", hook: Callable[[nn.Module], Any] = type) -> nn.Module:
    """Return layers that never ran; in the table of the first one is a hook of another kind."""
    layer = nn.LazyConv2d(8, 3)
    if table:
        vars(layer)[table][0] = hook(layer)
    return nn.Sequential(layer, nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(4))


def wrapped(hook: Any) -> Any:
    return getattr(nn.modules.module, "_WrappedHook")(hook)  # noqa: B009 - torch's own, private


PLANTED_IN_LAZY: Mapping[str, Callable[[], Any]] = {
    "method of another name": lambda: lazy(PRE, lambda layer: Bound(layer, "train")),
    "hook of the other table": lambda: lazy(PRE, lambda layer: Bound(layer, "_lazy_load_hook")),
    "hook of another layer": lambda: lazy(PRE, lambda _: nn.LazyLinear(2)._infer_parameters),
    "hook in a third table": lambda: lazy(
        "_forward_hooks", lambda layer: Bound(layer, "_infer_parameters")
    ),
    "wrapped method": lambda: lazy(LOAD, lambda layer: wrapped(Bound(layer, "cuda"))),
    "function": lambda: lazy(LOAD, lambda _: RELU),
    "hook of a layer that is not lazy": lambda: planted(
        "stem", **{PRE: OrderedDict({0: Bound(nn.Conv2d(1, 1, 1), "_infer_parameters")})}
    ),
}


@pytest.mark.parametrize("name", PLANTED_IN_LAZY)
def test_lazy_layer_has_the_hooks_of_torch_alone(name: str, tmp_path: Path) -> None:
    file = saved(PLANTED_IN_LAZY[name](), tmp_path / "net.pt")

    with pytest.raises(UnsafeError, match="has a hook that would be called"):
        modswap.load(file)


COMMANDS = {
    "check": ("check", "net.pt", "-c", "swap.yaml"),
    "replace": ("replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt"),
    "no forward": ("replace", "net.pt", "-c", "swap.yaml", "-o", "out.pt", "--no-forward"),
    "init": ("init", "net.pt"),
    "tree with inputs": ("tree", "net.pt", "--input", "1,3,8,8"),
    "tree": ("tree", "net.pt"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_layers_that_never_ran_are_named_by_every_command(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    saved({"model": lazy(), "epoch": 3}, Path("net.pt"))
    Path("swap.yaml").write_text("version: 1\nreplace: [{match: '2', with: 'torch.nn:ReLU'}]\n")

    code = run(COMMANDS[name])

    printed = capsys.readouterr()
    said = " ".join((printed.out + printed.err).split())
    assert code == (0 if name == "tree" else 3)
    assert "its LazyBatchNorm2d, LazyConv2d, LazyLinear never got a shape" in said
    assert "run the model once, and save it again" in said
    assert "any code" not in said
    assert "--allow" not in said


def test_lazy_layers_that_ran_are_as_any_other(tmp_path: Path) -> None:
    model = lazy()
    model(torch.ones(2, 3, 8, 8))
    file = saved(model, tmp_path / "net.pt")

    assert isinstance(modswap.load(file), nn.Sequential)


def test_tree_names_what_else_a_file_with_lazy_layers_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved({"model": lazy(), "x": Bound(nn.ReLU(), "train")}, tmp_path / "net.pt")

    assert run(["tree", str(file)]) == 0

    assert "builtins.getattr would have to be called" in capsys.readouterr().out


SOUND: Mapping[str, Callable[[], Any]] = {
    "name of a method with a text": lambda: planted("stem", type="torch.nn.Conv2d", i=1, f=-1),
    "activation": lambda: nn.TransformerEncoderLayer(8, 2, activation="gelu"),
    "empty place": lambda: planted("stem", _compiled_call_impl=None),
    "hooks": sound_hooks,
    "attribute of a tensor": sound_tensor,
    "places of a class": lambda: hooked(slot={"a": 1}, limit=4, size=5, extra=OrderedDict(a=1)),
    "tensor in a place": lambda: hooked(slot=torch.ones(2)),
    "object in a place": lambda: hooked(slot=Bag()),
    "objects": lambda: {"model": net(), "bags": [Bag(), Slotted(), Setting()]},
    "counter": lambda: {"model": net(), "milestones": Counter([30, 60])},
    "versions of a state dict": lambda: hooked(kept=net().state_dict()),
    "recurrent": lambda: nn.Sequential(nn.LSTM(2, 3), nn.GRU(3, 2)),
    "older table": lambda: with_state(
        "stem", lambda s: {k: v for k, v in s.items() if k != "_backward_pre_hooks"}
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", SOUND)
def test_sound_attributes_and_hooks_pass(name: str, tmp_path: Path) -> None:
    file = saved(SOUND[name](), tmp_path / "net.pt")

    model = modswap.load(file, allow=[*NAMES, f"{__name__}.keep"])

    assert isinstance(model, nn.Module)


def test_training_dictionary_of_the_old_format_passes(tmp_path: Path) -> None:
    model = GatedNet()
    optimizer = torch.optim.AdamW(model.parameters())
    payload = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}
    file = saved(payload, tmp_path / "net.pt", legacy=True)

    modswap.load(file, "tests.models:build_gated")


def test_shard_of_a_folder_is_screened(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = net().state_dict()
    weights["extra"] = Raw(HOSTILE["pairs"]()["extra"].code)
    saved(weights, tmp_path / "pytorch_model.bin")

    with pytest.raises(UnsafeError, match=r"attributes of a collections\.OrderedDict are a list"):
        modswap.load(tmp_path, "tests.models:build_gated")


HIDDEN = {
    "beside the payload": b"\x80\x02" + FORWARD[12:] + b"}.",
    "below a mark": b"\x80\x02(K\x01}.",
    "under a key twice": b"\x80\x02}(U\x01ac__builtin__\nbytearray\nU\x01aNu.",
    "under a key once more": b"\x80\x02}X\x01\x00\x00\x00aNsX\x01\x00\x00\x00aNs.",
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_object_that_is_in_nothing_is_refused(name: str, tmp_path: Path) -> None:
    file = with_pickle(tmp_path, HIDDEN[name])

    with pytest.raises(CheckpointError, match=r"that are in nothing|two values under a key"):
        modswap.load(file, "tests.models:build_gated")


def test_table_that_is_missing_is_left_to_the_loader() -> None:
    state: dict[str, Any] = {"_modules": {}, "_forward_hooks": None}
    made = Instance("new", Name("nets", "Net"), (), state)

    refuse_planted([made], Known({}), Path("net.pt"))


def test_table_of_hooks_that_is_an_object_is_refused() -> None:
    hooks = Instance("new", Name("nets", "Hooks"), (), {})
    state: dict[str, Any] = {"_modules": {}, "_forward_hooks": hooks}
    made = Instance("new", Name("nets", "Net"), (), state)

    what = r"the table '_forward_hooks' of a nets\.Net is a nets\.Hooks, expected a dictionary"
    with pytest.raises(UnsafeError, match=what):
        refuse_planted([made], Known({}), Path("net.pt"))

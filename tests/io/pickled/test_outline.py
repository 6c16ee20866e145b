"""Trees read as data, against those of the same files loaded by torch.

Covers: data, names.
"""

import gc
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Policy, Subject
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.core.seen.tree import Tree, Wanted
from modswap.io.formats.outline import outline
from modswap.io.pickled import outline as torch_outline
from modswap.io.pickled.data import Name, read_pickle
from modswap.ops.demo.network import build_network
from modswap.ops.jobs.model_tree import build_tree
from tests.models import GatedNet


def shared() -> nn.Module:
    inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    return nn.ModuleDict({"a": inner, "b": nn.Sequential(inner, nn.Identity()), "c": inner[0]})


def tied() -> nn.Module:
    embed, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    head.weight = embed.weight
    return nn.Sequential(OrderedDict(embed=embed, head=head))


def odd() -> nn.Module:
    model = nn.Module()
    model.register_buffer("none", None)
    model.register_buffer("bits", torch.ones(3, dtype=torch.bool))
    model.register_buffer("brief", torch.ones(3, 2, dtype=torch.bfloat16))
    model.register_buffer("pairs", torch.ones(2, dtype=torch.complex64))
    model.register_buffer("words", torch.ones(5, dtype=torch.uint16))
    model.list = nn.ParameterList([nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(()))])
    model.slice = nn.Parameter(torch.ones(10, 10)[2:4])
    model.register_module("absent", None)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "gated": GatedNet,
    "demo": lambda: build_network(base_width=4),
    "shared": shared,
    "tied": tied,
    "odd": odd,
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "parallel": lambda: nn.DataParallel(GatedNet()),
    "empty": nn.Identity,
}
PAYLOADS: dict[str, Callable[[nn.Module], Any]] = {
    "module": lambda model: model,
    "weights": lambda model: model.state_dict(),
    "plain dict": lambda model: dict(model.state_dict()),
    "training": lambda model: {"epoch": 3, "model": model, "ema": model, "loss": [0.5, None]},
    "nested": lambda model: {"state_dict": {"model": model.state_dict()}, "epoch": 1},
}


CLASS = b"ctests.models\nGatedNet"


def loaded(file: Path) -> Tree:
    allow = Policy(("tests.models.*",), (), trust=True)
    return build_tree(Subject(file, allow), lambda _: None)


@pytest.mark.each_once
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("model", MODELS)
def test_tree_is_that_of_the_loaded_file(model: str, payload: str, tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(PAYLOADS[payload](MODELS[model]()), file)
    if model == "empty" and payload in {"weights", "plain dict", "nested"}:
        assert outline(file) is None
        return

    found, expected = outline(file), loaded(file)

    assert found is not None
    assert found.rows == expected.rows
    assert (found.file, found.format) == (expected.file, expected.format)
    assert [note for note in expected.notes if "--trust" not in note] == list(found.notes)


def test_names_are_judged_without_being_imported(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(GatedNet(), file)
    other = rewritten(file, lambda data: data.replace(CLASS, b"cgone.nets\nNet"))

    found = outline(other)

    assert found is not None
    assert found.rows[0].class_name == "gone.nets.Net"
    (wanted,) = found.wanted
    assert wanted == Wanted("gone.nets.Net", "not allowed by itself", "--allow gone.nets.Net")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"c__main__\nNet", Wanted("__main__.Net", "moved", "--alias __main__.Net=yourmodule.Net")),
        (b"cos\nsystem", Wanted("os.system", "can run any code", "")),
        (b"cmynets\nos.system", Wanted("mynets.os.system", "can run any code", "")),
    ],
)
def test_each_kind_of_name_is_reported(name: bytes, expected: Wanted, tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(GatedNet(), file)
    other = rewritten(file, lambda data: data.replace(CLASS, name))

    found = outline(other)

    assert found is not None
    assert found.wanted == (expected,)


def rewritten(file: Path, change: Callable[[bytes], bytes]) -> Path:
    """Return a copy of a torch zip with another pickle."""
    out = file.with_name("other.pt")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            same = not entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, old.read(entry) if same else change(old.read(entry)))
    return out


def with_pickle(folder: Path, data: bytes) -> Path:
    file = folder / "made.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", data)
        archive.writestr("net/version", "3\n")
    return file


def module(modules: bytes = b"}", parameters: bytes = b"}") -> bytes:
    """Return the opcodes of a module with these children and parameters."""
    made = b"cnets\nNet\n)\x81"
    state = b"}(U\x08_modules" + modules + b"U\x0b_parameters" + parameters + b"u"
    return made + state + b"b"


def tensor(size: bytes, kind: bytes = b"ctorch\nFloatStorage\n") -> bytes:
    """Return the opcodes of a tensor of a size."""
    stored = b"(U\x07storage" + kind + b"U\x010U\x03cpuK\x04tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + b"K\x00" + size + b")\x89NtR"


ODD = {
    "call of a number": b"K\x01)R.",
    "new of a text": b"U\x01a)\x81.",
    "arguments that are none": b"cnets\nNet\nK\x01R.",
    "state of a list": b"]}b.",
    "reference to no storage": b"U\x01aQ.",
    "view of a storage that torch never wrote": b"(U\x07storagectorch\nFloatStorage\n"
    b"U\x010U\x03cpuK\x04U\x01vtQ.",
    "cut short": b"\x80\x02cnets\nNet\n",
    "protocol 4": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N.",
    "reserved memory": b"\x80\x05\x96\xff\xff\xff\xff\x7f\x00\x00\x00.",
    "no model": b"K\x01.",
    "dictionary of numbers": b"}K\x01K\x02s.",
    "keys that are no keys": b"}(U\x05modelccollections\nOrderedDict\n)R(]K\x01uu.",
    "too many axes": b"}U\x01w" + tensor(b"(" + b"K\x01" * 65 + b"t") + b"s.",
    "negative side": b"}U\x01w" + tensor(b"(J\xff\xff\xff\xfft") + b"s.",
    "size that is none": b"}U\x01w" + tensor(b"N") + b"s.",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_checkpoint_is_left_to_torch(name: str, tmp_path: Path) -> None:
    assert outline(with_pickle(tmp_path, ODD[name])) is None


@pytest.mark.parametrize("depth", [201, 300, 2_000])
def test_modules_nested_too_deep_are_refused(depth: int, tmp_path: Path) -> None:
    data = module()
    for _ in range(depth):
        data = module(modules=b"}U\x01a" + data + b"s")

    with pytest.raises(CheckpointError, match="its modules are nested over 200 deep"):
        outline(with_pickle(tmp_path, data + b"."))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (b"c_codecs\nencode\n(U\x01aU\x03hextR", "_codecs.encode would be called"),
        (b"cbuiltins\nbytearray\n(M\x10\x27tR", "reserves memory"),
        (
            b"ctorch.nn.modules.rnn\nLSTM\n)\x81}(U\x0anum_layersM\xff\xffU\x0c_all_weights]ub",
            "layers",
        ),
        (tensor(b"(J\xff\xff\xff\x7ft"), "more memory than the file can account for"),
    ],
    ids=["codec", "array", "layers", "tensor"],
)
def test_tree_of_a_file_that_costs_too_much_to_load_is_refused(
    call: bytes, says: str, tmp_path: Path
) -> None:
    data = b"}(U\x01w" + tensor(b"(K\x02t") + b"U\x0c_extra_state" + call + b"u."

    with pytest.raises((CheckpointError, UnsafeError), match=says):
        outline(with_pickle(tmp_path, data))


def test_module_in_itself_is_refused(tmp_path: Path) -> None:
    data = b"cnets\nNet\n)\x81q\x01}(U\x08_modules}U\x01ah\x01sU\x0b_parameters}ub."

    with pytest.raises(CheckpointError, match=r"a nets\.Net of it contains itself"):
        outline(with_pickle(tmp_path, data))


def test_tensors_nested_too_deep_are_left_to_torch(tmp_path: Path) -> None:
    many = 5000
    opening, closing = b"ctorch._utils\n_rebuild_parameter\n(", b"\x89}tR"
    data = b"}U\x01w" + opening * many + tensor(b"(K\x04t") + closing * many + b"s."

    assert outline(with_pickle(tmp_path, data)) is None


@pytest.mark.parametrize(
    ("data", "params", "nbytes"),
    [
        (b"}U\x01w" + tensor(b"(K\x02K\x03t") + b"s.", 6, 24),
        (b"}U\x01w" + tensor(b"ctorch\nSize\n(]K\x05atR") + b"s.", 5, 20),
        (b"}U\x01w" + tensor(b"(K\x02t", b"ctorch\nQInt8Storage\n") + b"s.", 2, 2),
        (
            b"}U\x01wctorch._tensor\n_rebuild_from_type_v2\n("
            + tensor(b"(K\x02t").replace(b"_v2\n(", b"_v2\ncnets\nMine\n(").removesuffix(b"R")
            + b"}tRs.",
            2,
            8,
        ),
        (module(parameters=b"}U\x01w" + tensor(b"(K\x02t") + b"s") + b".", 2, 8),
        (module(parameters=b"N") + b".", 0, 0),
        (module().replace(b"nets\nNet", b"torch.nn.parallel\nDataParallel") + b".", 0, 0),
        (module(parameters=b"}U\x01acnets\nList\n)\x81(K\x01K\x02es") + b".", 0, 0),
        (module(parameters=b"}U\x01acnets\nList\n)\x81K\x01as") + b".", 0, 0),
        (module(parameters=b"}U\x01wK\x01s") + b".", 0, 0),
        (module(modules=b"}K\x01" + module() + b"s") + b".", 0, 0),
    ],
)  # fmt: skip
def test_tensors_of_every_make_are_counted(
    data: bytes, params: int, nbytes: int, tmp_path: Path
) -> None:
    found = outline(with_pickle(tmp_path, data))

    assert found is not None
    assert (found.rows[0].params, found.rows[0].nbytes) == (params, nbytes)


def test_pickle_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modswap.io.pickled.outline.MAX_PICKLE_BYTES", 10)
    file = with_pickle(tmp_path, module() + b".")

    with pytest.raises(CheckpointError, match="its pickle cannot be read safely: it has 42 bytes"):
        outline(file)


@pytest.mark.parametrize("limit", ["MAX_PICKLE_BYTES", "MAX_OPERATIONS"])
def test_pickle_of_too_many_parts_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from modswap.io.pickled import data as pickle_data

    monkeypatch.setattr(pickle_data, limit, 100)

    with pytest.raises(pickle_data.UnreadableError, match="100"):
        pickle_data.read_pickle(b"]" * 200 + b".")


def test_flipped_bit_in_the_pickle_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(GatedNet(), file)
    data = bytearray(file.read_bytes())
    data[data.find(b"GatedNet")] ^= 1
    file.write_bytes(data)

    with pytest.raises(CheckpointError, match=r"net\.pt: it is damaged: Bad CRC"):
        outline(file)


def test_legacy_file_is_read_as_data(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save({"a.w": torch.ones(2)}, file, _use_new_zipfile_serialization=False)

    tree = outline(file)

    assert tree is not None
    assert [(row.path, row.params) for row in tree.rows] == [("", 2), ("a", 2)]


def test_file_of_another_kind_is_left_to_those_who_name_it(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_text("no checkpoint")

    assert outline(tmp_path / "net.pt") is None


class Canary:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_nothing_is_executed_and_torch_is_not_imported(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps({"model": Canary(canary), "extra": [Canary(canary)]}, protocol=2)
    hostile = b"}(U\x05model" + module() + b"U\x05other" + data[2:-1] + b"u."
    file = with_pickle(tmp_path, b"\x80\x02" + hostile)
    program = (
        "import sys\nfrom modswap.cli.app import run\n"
        f"code = run(['tree', {str(file)!r}])\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\nsys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "would have to be called, which can run any code" in " ".join(done.stdout.split())
    assert not canary.exists()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collector_is_left_as_it_was(*, enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        read_pickle(b"].")

        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_names_that_torch_builds_by_itself_need_no_permission() -> None:
    by_itself = vars(torch._weights_only_unpickler)["_get_allowed_globals"]()
    names = [Name(*name.rsplit(".", 1)) for name in by_itself if name != "builtins.bytearray"]

    assert [str(name) for name in names if not torch_outline._known(name)] == []

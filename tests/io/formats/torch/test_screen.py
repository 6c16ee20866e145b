"""Hostile pickles that an allow-list alone would let through."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.io.formats.torch.screen import screen
from modswap.io.recognise.look import look_at
from tests.io.pickled.test_outline import module, tensor, with_pickle
from tests.models import GatedNet

LINEAR = b"ctorch.nn.modules.linear\nLinear\n"
HOSTILE = {
    "constructor": (
        LINEAR + b"(J\x50\xc3\x00\x00J\x50\xc3\x00\x00tR.",
        UnsafeError,
        "the constructor of torch.nn.modules.linear.Linear would be called",
    ),
    "bytearray": (
        b"}(U\x01wcbuiltins\nbytearray\n(L8589934592L\ntRu.",
        UnsafeError,
        "builtins.bytearray(8589934592) would be called, which reserves memory",
    ),
    "tensor": (
        b"}U\x01wctorch\nFloatTensor\n(J\xff\xff\xff\x7ftRs.",
        UnsafeError,
        "torch.FloatTensor(2147483647) would be called",
    ),
    "storage": (
        b"}U\x01wctorch.storage\nUntypedStorage\n(J\xff\xff\xff\x7ftRs.",
        UnsafeError,
        "torch.storage.UntypedStorage(2147483647) would be called",
    ),
    "method": (
        module().replace(b"U\x08_modules", b"U\x07forwardctorch.nn.functional\nrelu\nU\x08_modules")
        + b".",
        UnsafeError,
        "it puts an attribute 'forward' into a nets.Net",
    ),
    "call while loading": (
        b"}U\x01wctorch._tensor\n_rebuild_from_type_v2\n(" + module() + b"N)}tRs.",
        UnsafeError,
        "a nets.Net of its own would be called to make a tensor",
    ),
    "function while loading": (
        b"}U\x01wctorch._tensor\n_rebuild_from_type_v2\n(cnets\nrun\nN)}tRs.",
        UnsafeError,
        "nets.run would be called to make a tensor",
    ),
    "number while loading": (
        b"}U\x01wctorch._tensor\n_rebuild_from_type_v2\n(K\x01N)}tRs.",
        UnsafeError,
        "an object of int would be called to make a tensor",
    ),
    "endless tensor": (
        b"}U\x01w" + tensor(b"(L1000000000000L\nt") + b"s.",
        CheckpointError,
        "its tensors have 4,000,000,000,000 bytes, and the file",
    ),
    "ring": (
        b"cnets\nNet\n)\x81q\x01}(U\x08_modules}U\x01ah\x01sU\x0b_parameters}ub.",
        CheckpointError,
        "a nets.Net of it contains itself",
    ),
    "ordered ring": (
        module(b"ccollections\nOrderedDict\n)RU\x01ah\x01s").replace(b")\x81", b")\x81q\x01")
        + b".",
        CheckpointError,
        "a nets.Net of it contains itself",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_an_allow_list_lets_through_is_refused(name: str, tmp_path: Path) -> None:
    data, kind, message = HOSTILE[name]
    file = with_pickle(tmp_path, b"\x80\x02" + data)
    started = time.process_time()

    with pytest.raises(ModswapError) as refusal:
        modswap.load(file, "tests.models:build_gated", allow=["nets.*"])

    assert isinstance(refusal.value, kind)
    assert message in str(refusal.value)
    assert time.process_time() - started < 2


class Calling:
    """Pickled as a call of a layer's class, where a layer itself is made without one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return GatedNet, ()


def test_call_of_a_users_own_layer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save({"model": GatedNet(), "other": Calling()}, file)

    with pytest.raises(UnsafeError, match=r"the constructor of tests\.models\.GatedNet would be"):
        modswap.load(file, allow=["tests.models.*"])


def test_tensor_of_a_class_of_its_own_passes(tmp_path: Path) -> None:
    inner = tensor(b"(K\x02t").replace(b"_v2\n(", b"_v2\ncnets\nMine\n(").removesuffix(b"R")
    data = b"\x80\x02}U\x01wctorch._tensor\n_rebuild_from_type_v2\n(" + inner + b"}tRs."

    screened = screen(look_at(with_pickle(tmp_path, data)))

    assert screened.calls == {"torch._tensor._rebuild_from_type_v2"}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_sound_files_pass(tmp_path: Path) -> None:
    inner = nn.Linear(2, 2)
    model = nn.Sequential(inner, nn.Sequential(inner), nn.utils.weight_norm(nn.Linear(2, 2)))
    model.register_buffer("wide", torch.ones(1).expand(1000, 1000))
    model.register_buffer("thin", torch.ones(3).to_sparse())
    torch.save(model, tmp_path / "net.pt")

    called = screen(look_at(tmp_path / "net.pt")).calls

    assert "torch._utils._rebuild_tensor_v2" in called
    assert not any("nn.modules" in name for name in called)


def test_pickle_that_cannot_be_read_is_left_to_torch(tmp_path: Path) -> None:
    file = with_pickle(tmp_path, b"\x80\x04N.")

    assert screen(look_at(file)).calls == frozenset()

"""Ways in which hosts and torch run a module, each of which lost or changed an insertion once."""

import copy
import io
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from modswap.core.seen.joint import Joint
from modswap.nn.eca import ECA
from modswap.nn.inserted_site import InsertedSite, put_in
from modswap.nn.insertion import Insertion

X = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))


def stage() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()).eval()


def with_eca(site: nn.Module, gate: float = 0.5, module: nn.Module | None = None) -> nn.Module:
    new = Insertion(ECA(8) if module is None else module, Joint("after", "scale", 8, 2))
    nn.init.constant_(new.gate, gate)  # type: ignore[arg-type] # it has one
    put_in(site, "eca", new.eval())
    return site


def test_forward_called_directly_and_by_checkpointing_runs_the_insertion() -> None:
    site = with_eca(stage())
    x = X.clone().requires_grad_()

    assert torch.equal(site.forward(X), site(X))
    assert torch.equal(checkpoint(site.forward, x, use_reentrant=False), site(X))
    assert torch.equal(checkpoint(site, x, use_reentrant=False), site(X))


def test_data_parallel_training_runs_and_trains_it(tmp_path: Any) -> None:
    site = with_eca(stage()).train()
    other = copy.deepcopy(site)
    store: Any = dist.FileStore(str(tmp_path / "store"), 1)  # type: ignore[attr-defined] # torch names it there
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        spread = DistributedDataParallel(site)
        assert torch.equal(spread(X), other(X))
        spread(X).sum().backward()
        assert site._modules["eca"].gate.grad.any()  # type: ignore[union-attr, operator] # an Insertion
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_scripting_fails_and_never_compiles_the_old_forward() -> None:
    site = with_eca(stage())

    with pytest.raises(Exception, match=r".") as raised:
        torch.jit.script(site)

    assert isinstance(raised.value, (RuntimeError, torch.jit.frontend.NotSupportedError))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mode", ["eval", "train", "autocast"])
def test_a_closed_gate_keeps_every_bit(mode: str, dtype: torch.dtype) -> None:
    plain = stage().train(mode == "train")
    x = X
    if mode != "autocast":
        plain, x = plain.to(dtype), X.to(dtype)
    site = with_eca(copy.deepcopy(plain), 0.0).to(next(plain.parameters()).dtype)
    site.train(plain.training)

    low = torch.float16 if dtype is torch.float16 else torch.bfloat16
    with torch.autocast("cpu", low, enabled=mode == "autocast"):
        assert torch.equal(site(x), plain(x))


class Expanded(nn.Module):
    """Return a result with strides of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :1].expand(-1, -1, 6, -1)


def test_a_result_with_strides_of_its_own_keeps_its_values() -> None:
    site = with_eca(Expanded(), 0.0)

    assert torch.equal(site(X), Expanded()(X))
    last = X.to(memory_format=torch.channels_last)
    assert torch.equal(site(last), Expanded()(last))


class Root(nn.Module):
    """A module whose backward is singular at 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x).sqrt()


def test_a_singular_backward_spoils_neither_trunk_nor_gate() -> None:
    site = with_eca(nn.Identity(), 0.0, Root())
    x = X.clone().requires_grad_()

    site(x).square().sum().backward()

    assert torch.equal(x.grad, 2 * X)  # type: ignore[arg-type] # it has one
    assert torch.isfinite(site._modules["eca"].gate.grad).all()  # type: ignore[union-attr, arg-type] # an Insertion


def test_converting_to_synchronised_norms_loses_one_on_a_norm_and_keeps_others() -> None:
    norm = with_eca(nn.BatchNorm2d(8))
    inside = with_eca(stage())

    assert not isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(norm), InsertedSite)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(inside)
    assert isinstance(converted, InsertedSite)
    assert converted._modules["eca"].gate is not None  # type: ignore[union-attr] # an Insertion


def test_copies_and_saved_weights_compute_the_same() -> None:
    site = with_eca(stage())
    file = io.BytesIO()
    torch.save(site.state_dict(), file)
    file.seek(0)
    again = with_eca(stage(), 0.0)

    again.load_state_dict(torch.load(file), strict=True)  # noqa: TID251 - as a training script does

    assert torch.equal(again(X), site(X))
    assert torch.equal(copy.deepcopy(site)(X), site(X))
    assert torch.equal(torch.fx.symbolic_trace(copy.deepcopy(site)[0])(X), site[0](X))  # type: ignore[index] # a Sequential
